/**
 * The machine-wide monotonic clock in milliseconds. The gateway and the engine process read the same instants from it.
 */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

let turn: number | null = null;
/** The last turn with input, and the counts of the event loop then. */
let last = { at: -Infinity, loopCount: -Infinity, eventsWaiting: 0 };

/**
 * The instant at which the first input of this turn of the event loop may have come. Inputs of one turn arrive
 * together, and the last of them waits for the handling of all others: that wait belongs to its time. Inputs that were
 * there at the end of a turn waited for that turn as well, from its start on. Handlers of input call it first.
 */
export function turnStartedAt(): number {
  if (turn === null) {
    const { loopCount, eventsWaiting } = performance.nodeTiming.uvMetricsInfo;
    const at = monotonicMs();
    const hasWaited = loopCount === last.loopCount + 1 && eventsWaiting > last.eventsWaiting;
    turn = hasWaited ? last.at : at;
    last = { at, loopCount, eventsWaiting };
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
