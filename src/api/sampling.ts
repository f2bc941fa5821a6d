/** Sampling parameters of a request body, in the engine's terms. Knows: the vocabulary's size. */
import type { Sampling } from '../engine/messages.js';
import { ApiError, shown } from '../errors.js';
import type { GenerationBody } from './schemas/shared.js';

function logitBias(entries: Readonly<Record<string, number>>, vocabulary: number): [number, number][] {
  return Object.entries(entries).map(([key, bias]) => {
    const id = /^\d+$/.test(key) ? Number(key) : NaN;
    if (id < vocabulary) return [id, bias];
    throw new ApiError(
      'invalid_value',
      `logit_bias keys must be token ids from 0 to ${vocabulary - 1}, got ${shown(key)}.`,
      'logit_bias',
    );
  });
}

/** @throws ApiError invalid_value for a logit_bias outside the vocabulary */
export function sampling(body: GenerationBody, vocabulary: number): Sampling {
  return {
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    topK: Math.max(0, body.top_k ?? 0),
    minP: body.min_p ?? 0,
    seed: body.seed ?? null,
    presencePenalty: body.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    repetitionPenalty: body.repetition_penalty ?? 1,
    logitBias: logitBias(body.logit_bias ?? {}, vocabulary),
  };
}

/** The sampling of choice i: with a seed, each choice has one of its own, so that the whole answer repeats. */
export function ofChoice(base: Sampling, index: number): Sampling {
  return base.seed === null ? base : { ...base, seed: base.seed + index };
}
