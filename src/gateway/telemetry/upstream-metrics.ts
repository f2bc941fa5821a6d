/** Counts requests to models that run elsewhere, and their nets. Must not know: connections, text. */
import { modelLabels, startAnswers } from './answer-record.js';
import type { Series } from './series.js';

/**
 * - `whole`: the upstream ended its answer. `rejected`: it refused the request itself, with a status of 4xx.
 * - `failed`: no connection, 429, 5xx, or an answer that broke off.
 * - `deadline`, `cancelled`: the gateway aborted it at the deadline, or when the client left.
 */
export type TryEnd = 'whole' | 'rejected' | 'failed' | 'deadline' | 'cancelled';

/** The metrics of one model that runs elsewhere. Times are in ms. */
export class UpstreamMetrics {
  readonly #label: ReturnType<typeof modelLabels>;

  /** @param model the name that callers use @param upstream the name of its upstream */
  constructor(
    private readonly series: Series,
    model: string,
    upstream: string,
  ) {
    startAnswers(series, { model, upstream });
    const label = (this.#label = modelLabels({ model, upstream }));
    // An alert asks for a rate, and a new series shows none at its first event.
    for (const end of ['failed', 'deadline']) series.upstreamTries.inc({ ...label, status: 'none', end }, 0);
    series.upstreamTries.inc({ ...label, status: '200', end: 'whole' }, 0);
    series.breaker.set(label, 0);
    for (const histogram of [series.upstreamTtft, series.upstreamLate]) histogram.zero(label);
  }

  breaker(isOpen: boolean): void {
    this.series.breaker.set(this.#label, isOpen ? 1 : 0);
  }

  firstContent(ms: number): void {
    this.series.upstreamTtft.observe(this.#label, ms / 1000);
  }

  ended(status: number | null, end: TryEnd): void {
    this.series.upstreamTries.inc({ ...this.#label, status: String(status ?? 'none'), end });
  }

  /** @param ms past the deadline; negative in time */
  lastByte(ms: number): void {
    this.series.upstreamLate.observe(this.#label, Math.max(0, ms) / 1000);
  }
}

/** The cause of a net's start. `expected`: the upstream is likely to be late. */
export type NetTrigger = 'latest_start' | 'expected' | 'upstream_failed' | 'status' | 'breaker';

/** How a net ended. */
export interface NetFacts {
  /** The name that callers use, and the upstream's. */
  readonly model: string;
  readonly upstream: string;
  /**
   * - `none`: the request had no net. `unused`: it was armed, and did not start.
   * - `answered`: its answer went out. `overtaken`: it ran, and the upstream answered.
   * - `failed`: it ran, and had no whole sentence in time. `cancelled`: its client left.
   */
  readonly result: 'none' | 'unused' | 'answered' | 'overtaken' | 'failed' | 'cancelled';
  /** Null: it did not start. */
  readonly trigger: NetTrigger | null;
  /** From its start to its end, ms; null: it did not start. */
  readonly ranMs: number | null;
}

/** Gets the facts of each net once, at its end. */
export type NetObserver = (net: NetFacts) => void;

/** Counts nets. */
export const netMetrics =
  (series: Series): NetObserver =>
  ({ result, trigger, ranMs, ...model }) => {
    const label = { ...modelLabels(model), result };
    series.nets.inc({ ...label, trigger: trigger ?? 'none' });
    if (ranMs !== null) series.netSeconds.inc(label, ranMs / 1000);
  };
