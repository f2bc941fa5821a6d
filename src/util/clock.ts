/**
 * The machine-wide monotonic clock in milliseconds. The gateway and the engine process read the same instants from it.
 */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Milliseconds to set a timer for so that it fires at this instant and never before it. */
export function timerUntil(instant: number): number {
  return Math.min(LONGEST_TIMER_MS, Math.max(0, Math.ceil(instant - monotonicMs())));
}
