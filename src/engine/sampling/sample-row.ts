/**
 * Samples the token of a row: from its largest logits, from those that rules change, or from all.
 *
 * Must not know: sequences, tensors.
 */
import { applyMask } from '../constraint.js';
import type { Sampling } from '../../protocol/index.js';
import { changesLogits } from '../../protocol/sampling-rules.js';
import { sampleAll } from './all-logits.js';
import { adjust, sampleTop, type TokenCounts, type TopLogits } from './sampler.js';

/** Share of the probability that must be left after changes: rounding of the log-sum-exp decides no draw then. */
const LEAST_MASS = 0.05;

/** More tokens than this take longer to sort than all take in bins. */
const MOST_KNOWN = 1000;

/**
 * Samples a row: from its largest logits and those that bias and penalties change, or from all where others may decide.
 * @param top the largest logits, without the changes; of equal ones, those of the lowest ids
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
  if (!changesLogits(sampling) && mask === null)
    return sampleTop(top, sampling, u) ?? sampleAll(all(), sampling, u, top.lseT);
  const logits = all();
  const needsMass = sampling.temperature > 0 && sampling.topK === 0;
  const exp = (logit: number): number => Math.exp(logit / sampling.temperature - top.lseT);
  let mass = 1;
  const last = top.values.length - 1;
  const lastId = Number(top.ids[last]);
  const floor = top.values[last] ?? NaN;
  // Every other logit is at most `floor`.
  const known = new Set(Array.from(top.ids, Number));
  adjust(logits, sampling, counts(), (id, from, to) => {
    if (needsMass) mass += exp(to) - exp(from);
    if (to >= floor) known.add(id);
  });
  if (mask !== null) applyMask(logits, mask);
  const lseT = needsMass && mask === null && mass >= LEAST_MASS ? top.lseT + Math.log(mass) : null;
  if ((needsMass && lseT === null) || known.size > MOST_KNOWN) return sampleAll(logits, sampling, u, lseT);
  const largest: [id: number, logit: number][] = [];
  for (const id of known) {
    const logit = logits[id] ?? NaN;
    if (logit > floor || (logit === floor && id <= lastId)) largest.push([id, logit]);
  }
  largest.sort(([a, x], [b, y]) => y - x || a - b);
  const ids = largest.map(([id]) => id);
  const values = largest.map(([, logit]) => logit);
  // With top_k or without a temperature, any constant works.
  const changed = { ids, values, lseT: lseT ?? (values[0] ?? 0) / (sampling.temperature || 1) };
  return (ids.length > 0 ? sampleTop(changed, sampling, u) : null) ?? sampleAll(logits, sampling, u, lseT);
}

/** Samples from all logits of a row. @param logits changed in place. @returns null if no token is possible */
export function sampleFull(logits: Float32Array, sampling: Sampling, counts: TokenCounts, u: number): number | null {
  adjust(logits, sampling, counts);
  return sampleAll(logits, sampling, u, null);
}
