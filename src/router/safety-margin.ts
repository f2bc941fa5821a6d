/**
 * Safety margin of guarantees: online quantile tracking. A miss adds STEP to the margin, a kept guarantee takes
 * STEP x (1 - TARGET) / TARGET off, so it settles where the target share is kept, whatever makes answers late.
 *
 * A margin that rejects all requests has no outcome to fall by, so its excess decays without outcomes.
 */

export interface SafetyMargin {
  /** As of the last outcome: see marginAt. */
  readonly margin: number;
  /** Instant of the last outcome, ms. */
  readonly at: number;
}

/** Share of guarantees that are to be kept. */
const TARGET = 0.995;
/** A miss adds a tenth, as much as a slow spell of a shared machine takes. */
const STEP = 0.1;
const INITIAL = 0.1;
const MOST = 1;
/** A margin above its initial value holds for so long without an outcome; its excess halves each half-life after, ms. */
const HOLD_MS = 10_000;
const HALF_LIFE_MS = 10_000;

export const initialMargin: SafetyMargin = { margin: INITIAL, at: -Infinity };

/** Share by which a budget must exceed the planned time, at an instant. */
export function marginAt({ margin, at }: SafetyMargin, now: number): number {
  const idleMs = now - at - HOLD_MS;
  return margin <= INITIAL || idleMs <= 0 ? margin : INITIAL + (margin - INITIAL) * 2 ** (-idleMs / HALF_LIFE_MS);
}

/** Learns at an instant that a guarantee was kept or missed. */
export function observeGuarantee(margin: SafetyMargin, isKept: boolean, now: number): SafetyMargin {
  const next = marginAt(margin, now) + (isKept ? (-STEP * (1 - TARGET)) / TARGET : STEP);
  return { margin: Math.min(MOST, Math.max(0, next)), at: now };
}
