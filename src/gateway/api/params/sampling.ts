/** Sampling parameters of a request body, in the engine's terms. */
import { COMMON_SAMPLING, statesNoSampling } from '../../../engine/model/common-sampling.js';
import type { Dry, Generation } from '../../../engine/model/manifest.js';
import type { EngineRequest } from '../../../protocol/index.js';
import type { ApiContext } from '../context.js';
import { invalid } from '../errors.js';
import type { SamplingReport } from '../schemas/report.js';
import type { GenerationBody } from '../schemas/shared.js';
import { quoted } from '../../../util/quoted.js';

export interface SamplingDefaults extends Required<Omit<Generation, 'maxTokens'>> {
  /** Most tokens of a chat answer; null: to the end of the context. */
  readonly maxTokens: number | null;
}

const NEUTRAL = { temperature: 1, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, maxTokens: null };

/** Sampling fields of a request that states none: the model's, else neutral ones. */
export function samplingDefaults(generation: Generation): SamplingDefaults {
  return { ...NEUTRAL, ...(statesNoSampling(generation) && COMMON_SAMPLING), ...generation };
}

/**
 * Lower temperatures count as 0; vLLM has the same bound. Logits divided by less overflow floats, and the resulting NaN
 * probabilities pick any token. Far above this bound, sampling already draws only the most likely token.
 */
const MIN_TEMPERATURE = 1e-5;

/**
 * Each choice carries all entries. One choice may bias every token; several together may have no more entries than
 * that.
 */
function logitBias(entries: Readonly<Record<string, number>>, vocabulary: number, choices: number): [number, number][] {
  const listed = Object.entries(entries);
  const most = Math.floor(vocabulary / choices);
  if (listed.length > most)
    throw invalid('logit_bias', `must have at most ${most} entries with ${choices} choices, got ${listed.length}`);
  return listed.map(([key, bias]) => {
    const id = /^\d+$/.test(key) ? Number(key) : NaN;
    if (id < vocabulary) return [id, bias];
    throw invalid('logit_bias', `keys must be token ids from 0 to ${vocabulary - 1}, got ${quoted(key)}`);
  });
}

/**
 * The DRY penalty that a request states, in llama.cpp's names and with its defaults. Another repetition penalty in the
 * request turns the exit's own DRY rule off, unless the penalty is neutral: load tools send neutral values.
 * @returns undefined for the rule of each token's exit
 * @throws ApiError invalid_value for DRY details without dry_multiplier
 */
function dry(body: GenerationBody): Dry | undefined {
  const penalizes =
    (body.presence_penalty ?? 0) !== 0 || (body.frequency_penalty ?? 0) !== 0 || (body.repetition_penalty ?? 1) !== 1;
  for (const name of ['dry_base', 'dry_allowed_length'] as const)
    if (body[name] !== undefined && body.dry_multiplier === undefined)
      throw invalid(name, `needs dry_multiplier, got ${body[name]} without it`);
  const multiplier = body.dry_multiplier ?? (penalizes ? 0 : undefined);
  if (multiplier === undefined) return undefined;
  return { multiplier, base: body.dry_base ?? 1.75, allowedLength: body.dry_allowed_length ?? 2 };
}

/**
 * The fields that a request states, and the defaults for the others, each field by itself.
 * @param choices number of answers that the request asks for
 * @throws ApiError invalid_value for a logit_bias outside the vocabulary or with too many entries, or for DRY details
 * without dry_multiplier
 */
export function sampling(
  { model }: Pick<ApiContext, 'model'>,
  body: GenerationBody,
  choices: number,
): EngineRequest['sampling'] {
  const defaults = samplingDefaults(model.generation);
  const rule = dry(body);
  const { temperature = defaults.temperature } = body;
  return {
    temperature: temperature < MIN_TEMPERATURE ? 0 : temperature,
    topP: body.top_p ?? defaults.topP,
    topK: Math.max(0, body.top_k ?? defaults.topK),
    minP: body.min_p ?? defaults.minP,
    presencePenalty: body.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    repetitionPenalty: body.repetition_penalty ?? defaults.repetitionPenalty,
    ...(rule && { dry: rule }),
    logitBias: logitBias(body.logit_bias ?? {}, model.tokenizer.vocabulary, choices),
  };
}

/** Sampling in the names of the request fields: a request that states them is sampled alike. */
export function samplingFields(sampling: EngineRequest['sampling']): SamplingReport {
  const { dry: rule } = sampling;
  return {
    temperature: sampling.temperature,
    top_p: sampling.topP,
    top_k: sampling.topK,
    min_p: sampling.minP,
    presence_penalty: sampling.presencePenalty,
    frequency_penalty: sampling.frequencyPenalty,
    repetition_penalty: sampling.repetitionPenalty,
    ...(rule && { dry_multiplier: rule.multiplier, dry_base: rule.base, dry_allowed_length: rule.allowedLength }),
  };
}

/**
 * The seed of a choice. With a seed, each choice gets its own one, so that the whole response is reproducible.
 * @param index of the choice among those of its prompt
 */
export function seedOf(seed: number, index: number): number {
  // Above the largest safe integer, two different sums may be one number.
  return seed <= Number.MAX_SAFE_INTEGER - index ? seed + index : seed - index;
}
