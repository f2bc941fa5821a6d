/** The parts of an answer that the forms of translated endpoints read: of the local model, or of one elsewhere. */
import type { Sampling } from '../../../protocol/index.js';
import type { Usage } from '../schemas/shared.js';
import type { SortieReport } from '../schemas/report.js';
import type { Choice } from './choice.js';

export interface FormAnswer {
  /** Unix seconds. */
  readonly created: number;
  readonly choices: readonly Pick<Choice, 'finishReason' | 'stopString' | 'completionTokens'>[];
  readonly request: {
    readonly id: string;
    readonly modelName: string;
    readonly engine: {
      readonly sampling: Pick<Sampling, 'temperature' | 'topP' | 'presencePenalty' | 'frequencyPenalty'>;
      readonly logprobs: number | null;
      readonly sequences: readonly { readonly maxTokens: number }[];
    };
  };
  /** Whether a filter of content ended it. */
  readonly isFiltered?: boolean;
  usage(): Usage;
  /** Undefined: the answer has none. */
  report(): SortieReport | undefined;
}
