/** Collects the events of a step for its message. Must not know: why they happen. */
import type {
  EndedEvent,
  LoadSnapshot,
  PlannedEvent,
  PromptEvent,
  RejectedEvent,
  StepMessage,
  StepWork,
  TokenEvent,
} from '../../protocol/index.js';
import type { SequenceEnd } from '../scheduler/step-plan.js';
import type { Answer } from '../answer.js';

/** By id: the end token as an end event reports it. */
export type LastTokens = Map<string, Pick<EndedEvent, 'endToken' | 'landed'>>;

export class StepOutput {
  readonly planned: PlannedEvent[] = [];
  readonly rejected: RejectedEvent[] = [];
  readonly prompts: PromptEvent[] = [];
  readonly tokens: TokenEvent[] = [];
  readonly ended: EndedEvent[] = [];

  /** Whether rejections or ends are pending, which must be sent without waiting for a step. */
  get hasNews(): boolean {
    return this.rejected.length + this.ended.length > 0;
  }

  /** Reports the end of an answer. */
  end({ sequence, constraint }: Answer, { reason, isDryRun }: SequenceEnd, at: number, last?: LastTokens): void {
    const failure = reason === 'error' ? constraint?.failed : null;
    this.ended.push({
      id: sequence.id,
      reason,
      error: failure?.message ?? null,
      ...(failure && { isLost: failure.isLost }),
      promptTokens: sequence.promptLength,
      cachedTokens: sequence.cachedTokens,
      startedAt: sequence.startedAt,
      firstTokenAt: sequence.firstTokenAt,
      endedAt: at,
      preemptions: sequence.preemptions,
      ...last?.get(sequence.id),
      ...(sequence.drafts.length > 0 && { drafts: [...sequence.drafts] }),
      ...(isDryRun === true && { isDryRun }),
    });
  }

  /** The message with all events so far; empties the output. */
  take(at: number, load: LoadSnapshot, work: StepWork | null): StepMessage {
    return {
      type: 'step',
      at,
      planned: this.planned.splice(0),
      rejected: this.rejected.splice(0),
      prompts: this.prompts.splice(0),
      tokens: this.tokens.splice(0),
      ended: this.ended.splice(0),
      load,
      work,
    };
  }
}
