/**
 * The margin of nets on their forecast times: online quantile tracking, as the margin of promises. A late net adds a
 * step, and a net in time takes so much off that the target share is in time. It is on all work of a net, so that many
 * nets that start together have more time, and they have a share of their own. Pure.
 */
import type { PromisedPart, PromisedWork } from '../../protocol/index.js';

/** Share of the nets that are to be in time. */
const KEPT = 0.995;
/** As shares of the forecast time: at the start, after a late net, and the bounds. */
const INITIAL = 0.1;
const STEP = 0.1;
const LEAST = 0;
const MOST = 1;
/** Of the work that nets do to each other. Gateway and planning take time for each, and single nets teach no more. */
const CROWD = 0.5;
/** Time of a timer and of the messages between gateway and engine, ms. */
const TURN_MS = 10;

/** The time of one sentence of each choice, and the work of a choice. */
type Forecast = PromisedWork & Pick<PromisedPart, 'sentenceMs'>;

export class NetMargin {
  #share = INITIAL;

  /** The parts of a net's choices in the engine's time. They share their prompt. @param endsAt the end of its answer */
  parts({ sentenceMs, prefillMs, fullMs, besideMs }: Forecast, endsAt: number, choices: number): PromisedPart[] {
    const careful = 1 + this.#share;
    const beside = careful * (1 + CROWD);
    const aloneMs = Math.max(0, sentenceMs - besideMs * (choices - 1));
    return Array.from({ length: choices }, (_, i) => ({
      dueAt: endsAt - TURN_MS,
      sentenceMs: careful * aloneMs,
      prefillMs: i === 0 ? beside * prefillMs : 0,
      fullMs: beside * (i === 0 ? fullMs : fullMs - prefillMs),
      besideMs: beside * besideMs,
    }));
  }

  /** Learns from a net that began at its latest start. The others had time to spare. */
  observe(isInTime: boolean): void {
    const step = isInTime ? (-STEP * (1 - KEPT)) / KEPT : STEP;
    this.#share = Math.min(MOST, Math.max(LEAST, this.#share + step));
  }
}
