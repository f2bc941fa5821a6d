/** Sampling of a model whose source states none. */
import type { Generation, Manifest } from './manifest.js';

/** Defaults of llama.cpp: at temperature 1 a small model loses the thread. */
export const COMMON_SAMPLING = { temperature: 0.8, topP: 0.95, topK: 40 } as const;

/** Whether a model states neither a temperature nor a bound on the tokens to draw from. */
export function statesNoSampling({ temperature, topP, topK, minP }: Generation): boolean {
  return [temperature, topP, topK, minP].every((value) => value === undefined);
}

/** @returns the warning for a folder whose sampling is guessed, with the option that states it; else null */
export function samplingWarning({ generation = {} }: Pick<Manifest, 'generation'>): string | null {
  if (!statesNoSampling(generation)) return null;
  const { temperature, topP, topK } = COMMON_SAMPLING;
  return (
    `the model states no sampling, so requests have temperature ${temperature}, top_p ${topP} and top_k ${topK}. ` +
    'With the values of its model card: sortie convert SOURCE --out DIR --generation temperature=T,top_p=P'
  );
}
