/**
 * Samples the token of a row: from its largest logits, from those that rules change, or from all.
 *
 * Must not know: sequences, tensors.
 */
import { applyMask } from '../constraint.js';
import type { Sampling } from '../protocol.js';
import { sampleAll } from './all-logits.js';
import { adjust, changedLogits, needsAllLogits, sampleTop, type TokenCounts, type TopLogits } from './sampler.js';

/** Share of the probability that must be left after changes: rounding of the log-sum-exp decides no draw then. */
const LEAST_MASS = 0.05;

/**
 * Samples a row: from its largest logits and those that bias and penalties change, or from all where others may decide.
 * @param top the largest logits, without the changes
 * @param all copies all logits, without the changes
 * @param mask 1 for tokens that may come, by id; null: all may
 * @returns null if no token is possible
 */
export function sampleRow(
  top: TopLogits,
  all: () => Float32Array,
  sampling: Sampling,
  counts: () => TokenCounts,
  mask: Uint8Array | null,
  u: number,
): number | null {
  if (!needsAllLogits(sampling) && mask === null)
    return sampleTop(top, sampling, u) ?? sampleAll(all(), sampling, u, top.lseT);
  const logits = all();
  const changed = changedLogits(logits, sampling, counts());
  const lseT = mask === null ? lseAfter(top.lseT, logits, changed, sampling) : null;
  const token = sampleChanged(top, changed, sampling, mask, lseT, u);
  if (token !== null) return token;
  for (const [id, logit] of changed) logits[id] = logit;
  if (mask !== null) applyMask(logits, mask);
  return sampleAll(logits, sampling, u, lseT);
}

/** The log-sum-exp of a row after changes, or null if it does not follow from the one before. */
function lseAfter(
  lseT: number,
  logits: Float32Array,
  changed: ReadonlyMap<number, number>,
  { temperature }: Sampling,
): number | null {
  const exp = (logit: number): number => Math.exp(logit / (temperature || 1) - lseT);
  let mass = 1;
  for (const [id, logit] of changed) mass += exp(logit) - exp(logits[id] ?? NaN);
  return mass < LEAST_MASS ? null : lseT + Math.log(mass);
}

/**
 * Samples from the largest logits and the changed ones: every other logit is at most the last of `top`.
 * @param lseT of all logits after the changes; null: unknown
 * @returns the token, or null when other tokens may decide
 */
function sampleChanged(
  top: TopLogits,
  changed: ReadonlyMap<number, number>,
  sampling: Sampling,
  mask: Uint8Array | null,
  lseT: number | null,
  u: number,
): number | null {
  if (lseT === null && sampling.temperature > 0 && sampling.topK === 0) return null;
  const last = top.values.length - 1;
  const [lastId, floor] = [Number(top.ids[last]), top.values[last] ?? NaN];
  const known: [id: number, logit: number][] = [];
  for (let i = 0; i <= last; i++) {
    const id = Number(top.ids[i]);
    if (!changed.has(id)) known.push([id, top.values[i] ?? NaN]);
  }
  for (const [id, logit] of changed) if (logit > floor || (logit === floor && id < lastId)) known.push([id, logit]);
  const possible = known.filter(([id]) => mask === null || mask[id] === 1);
  if (possible.length === 0) return null;
  possible.sort(([a, x], [b, y]) => y - x || a - b);
  const [ids, values] = [possible.map(([id]) => id), possible.map(([, logit]) => logit)];
  // With top_k or without a temperature, any constant works.
  return sampleTop({ ids, values, lseT: lseT ?? (values[0] ?? 0) / (sampling.temperature || 1) }, sampling, u);
}

/** Samples from all logits of a row. @param logits changed in place. @returns null if no token is possible */
export function sampleFull(logits: Float32Array, sampling: Sampling, counts: TokenCounts, u: number): number | null {
  adjust(logits, sampling, counts);
  return sampleAll(logits, sampling, u, null);
}
