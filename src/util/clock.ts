/** The machine-wide monotonic clock in milliseconds: gateway and engine process read the same instants from it. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Most milliseconds that a timer can count. */
const LONGEST = 2 ** 31 - 1;

/** How long a timer that rings at an instant of this clock must be set for, in milliseconds: never before it. */
export function timerUntil(instant: number): number {
  return Math.min(LONGEST, Math.max(0, Math.ceil(instant - monotonicMs())));
}
