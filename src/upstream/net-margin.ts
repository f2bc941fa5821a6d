/**
 * The margin between the latest start of a net and its forecast time: online quantile tracking, as the margin of
 * promises. A late net adds a step, and a net in time takes so much off that the target share is in time. Pure.
 */

/** Share of the nets that are to be in time. */
const KEPT = 0.995;
/** As shares of the forecast time: at the start, after a late net, and the bounds. */
const INITIAL = 0.1;
const STEP = 0.1;
const LEAST = 0;
const MOST = 1;
/** Time of a timer and of the messages between gateway and engine, ms. */
const TURN_MS = 10;

export class NetMargin {
  #share = INITIAL;

  /** @param sentenceMs the forecast @returns ms */
  of(sentenceMs: number): number {
    return TURN_MS + this.#share * sentenceMs;
  }

  /** Learns from a net that began at its latest start. The others had time to spare. */
  observe(isInTime: boolean): void {
    const step = isInTime ? (-STEP * (1 - KEPT)) / KEPT : STEP;
    this.#share = Math.min(MOST, Math.max(LEAST, this.#share + step));
  }
}
