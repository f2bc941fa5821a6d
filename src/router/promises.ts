/**
 * How careful promises must be: a margin learnt from those that were kept and those that were not.
 *
 * Knows: whether a promise was kept, and when. Must not know: why not, clocks.
 *
 * A quantile, tracked one outcome at a time: each broken promise raises the margin by as many times what each kept one
 * takes off as there are to be kept for each that is broken, so it settles there, whatever it is that makes answers later
 * than predicted. While few outcomes are known, neither is what a prediction is worth, so there is more to spare. And what
 * nothing came of for a while is doubted: refusals have no outcome, so a margin that refuses all could never fall.
 */

export interface Promises {
  /** As of the last outcome: see marginOf. */
  readonly margin: number;
  /** What it was before any outcome, and fades to. */
  readonly first: number;
  /** Instant of the last outcome, ms. */
  readonly at: number;
  /** How many outcomes it was learnt from. */
  readonly seen: number;
  /** Share of the promises that are to be kept. */
  readonly aim: number;
}

/** What a broken promise adds: a tenth, as much as the slow spells of a shared machine take. */
const STEP = 0.1;
const MOST = 1;

/** What is added to the margin before the first outcome, and the number of outcomes after which half of it is left. */
const UNKNOWN = 0.4;
const HALVED_BY = 10;
/** What a machine needed that gateway and clients share: the first guess for promises by prediction. */
const SHARED = 0.25;

/** A margin above its first guess stands for so long without an outcome, and then loses half of it each so long, ms. */
const STANDS = 30_000;
const HALVES = 30_000;

/** Of all promises: what plans and refusals leave to spare. */
export const noPromises: Promises = { margin: STEP, first: STEP, at: -Infinity, seen: 0, aim: 0.99 };
/** Of promises by prediction, which callers rely on: a margin that hovers about 99% would be below it half of the time. */
export const noneTold: Promises = { margin: SHARED, first: SHARED, at: -Infinity, seen: 0, aim: 0.995 };

/** Share of the time planned or predicted by which a budget must be larger before it is called feasible, at an instant. */
export function marginOf({ margin, first, at }: Promises, now: number): number {
  const untried = now - at - STANDS;
  return margin <= first || untried <= 0 ? margin : first + (margin - first) * 2 ** (-untried / HALVES);
}

/** How many times what is predicted a budget must be before it is called feasible. */
export function careOf(promises: Promises, now: number): number {
  return 1 + marginOf(promises, now) + UNKNOWN / (1 + promises.seen / HALVED_BY);
}

/** Learns at an instant that a promise was kept or broken. */
export function observePromise(promises: Promises, kept: boolean, now: number): Promises {
  const { first, seen, aim } = promises;
  const margin = marginOf(promises, now) + (kept ? (-STEP * (1 - aim)) / aim : STEP);
  return { margin: Math.min(MOST, Math.max(0, margin)), first, at: now, seen: seen + 1, aim };
}
