/**
 * Whom a step's time was spent on, by exit.
 *
 * Knows: the work of a step and what its parts should cost. Must not know: sequences, clocks.
 * Prefill and decode share the time as they were predicted to; rows of a decode step share theirs by their depth.
 */
import type { DepthShape, Work } from '../../cost/model.js';

/**
 * @param cost predicted milliseconds of a part of the work
 * @returns milliseconds by exit, in the order of shape.exits; their sum is `ms`
 */
export function exitTimes(shape: DepthShape, work: Work, cost: (part: Work) => number, ms: number): number[] {
  const shares = shape.exits.map(() => 0);
  const add = (exit: number, share: number): void => {
    shares[exit] = (shares[exit] ?? 0) + share;
  };
  for (const part of work.prefill) add(part.exit, cost({ decode: null, prefill: [part] }));
  if (work.decode !== null) {
    const depths = work.decode.rows.map((rows, exit) => rows * (shape.exits[exit]?.layer ?? 0));
    const depth = sum(depths);
    const decodeMs = cost({ decode: work.decode, prefill: [] });
    depths.forEach((each, exit) => {
      if (each > 0) add(exit, (decodeMs * each) / depth);
    });
  }
  const total = sum(shares);
  return shares.map((share) => (total > 0 ? (ms * share) / total : 0));
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}
