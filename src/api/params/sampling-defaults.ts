/** Sampling fields of a request that states none: the model's, or those of OpenAI's API. */
import { COMMON_SAMPLING, statesNoSampling } from '../../model/common-sampling.js';
import type { Generation } from '../../model/manifest.js';

/** `--sampling-defaults`: the manifest's values and rules, or temperature 1, top_p 1 and no rule. */
export type SamplingSource = 'model' | 'openai';

export interface SamplingDefaults extends Required<Omit<Generation, 'maxTokens'>> {
  /** Most tokens of a chat answer; null: to the end of the context. */
  readonly maxTokens: number | null;
  /** Whether the exits' DRY rules apply. */
  readonly dry: boolean;
}

const NEUTRAL = { temperature: 1, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, maxTokens: null };

export function samplingDefaults(generation: Generation, source: SamplingSource): SamplingDefaults {
  if (source === 'openai') return { ...NEUTRAL, dry: false };
  return { ...NEUTRAL, ...(statesNoSampling(generation) && COMMON_SAMPLING), ...generation, dry: true };
}
