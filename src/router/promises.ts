/**
 * How careful promises must be: a margin learnt from those that were kept and those that were not.
 *
 * Knows: whether a promise was kept. Must not know: why not, clocks.
 *
 * A quantile, tracked one outcome at a time: each broken promise raises the margin by as many times what each kept one
 * takes off as there are to be kept for each that is broken, so it settles there, whatever it is that makes answers later
 * than predicted. While few outcomes are known, neither is what a prediction is worth, so there is more to spare.
 */

export interface Promises {
  /** Share of the time planned or predicted by which a budget must be larger before it is called feasible. */
  readonly margin: number;
  /** How many outcomes it was learnt from. */
  readonly seen: number;
  /** Share of the promises that are to be kept. */
  readonly aim: number;
}

/** What a broken promise adds: a tenth, as much as the slow spells of a shared machine take. */
const STEP = 0.1;
const MOST = 1;

/** What is added to the margin before the first outcome, and the number of outcomes after which half of it is left. */
const UNKNOWN = 0.2;
const HALVED_BY = 10;
/** What a machine needed that gateway and clients share: the first guess for promises by prediction. */
const SHARED = 0.25;

/** Of all promises: what plans and refusals leave to spare. */
export const noPromises: Promises = { margin: STEP, seen: 0, aim: 0.99 };
/** Of promises by prediction, which callers rely on: a margin that hovers about 99% would be below it half of the time. */
export const noneTold: Promises = { margin: SHARED, seen: 0, aim: 0.995 };

/** How many times what is predicted a budget must be before it is called feasible. */
export function careOf({ margin, seen }: Promises): number {
  return 1 + margin + UNKNOWN / (1 + seen / HALVED_BY);
}

/** Learns that a promise was kept or broken. */
export function observePromise({ margin, seen, aim }: Promises, kept: boolean): Promises {
  const next = kept ? margin - (STEP * (1 - aim)) / aim : margin + STEP;
  return { margin: Math.min(MOST, Math.max(0, next)), seen: seen + 1, aim };
}
