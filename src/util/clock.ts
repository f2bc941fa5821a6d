/**
 * The machine-wide monotonic clock in milliseconds. The gateway and the engine process read the same instants from it.
 */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

let turn: number | null = null;

/**
 * The instant at which this turn of the event loop met its first input. Inputs of one turn arrive together, and the
 * last of them waits for the handling of all others: that wait belongs to its time. Handlers of input call it first.
 */
export function turnStartedAt(): number {
  if (turn === null) {
    turn = monotonicMs();
    // Immediates run at the end of a turn's input.
    setImmediate(() => {
      turn = null;
    });
  }
  return turn;
}

const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Milliseconds to set a timer for so that it fires at this instant and never before it. */
export function timerUntil(instant: number): number {
  return Math.min(LONGEST_TIMER_MS, Math.max(0, Math.ceil(instant - monotonicMs())));
}
