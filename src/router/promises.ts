/**
 * How careful promises must be: a margin learnt from those that were kept and those that were not.
 *
 * Knows: whether a promise was kept. Must not know: why not, clocks.
 *
 * A quantile, tracked one outcome at a time: each broken promise raises the margin by 99 times what each kept one takes
 * off, so it settles where one in a hundred is broken, whatever it is that makes answers later than plans.
 */

export interface Promises {
  /** Share of the planned time by which a budget must be larger before it is called feasible. */
  readonly margin: number;
}

/** Share of the promises that are to be kept. */
const KEPT = 0.99;
/** What a broken promise adds: a tenth, as much as the slow spells of a shared machine take. */
const STEP = 0.1;
const MOST = 1;

export const noPromises: Promises = { margin: STEP };

/** Learns that a promise was kept or broken. */
export function observePromise({ margin }: Promises, kept: boolean): Promises {
  const next = kept ? margin - (STEP * (1 - KEPT)) / KEPT : margin + STEP;
  return { margin: Math.min(MOST, Math.max(0, next)) };
}
