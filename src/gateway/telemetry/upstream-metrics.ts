/** Counts requests to models that run elsewhere, and their nets. Must not know: connections, text. */
import { type Outcome, OUTCOMES } from '../../protocol/outcome.js';
import { startAtZero } from './series-makers.js';
import type { Series } from './series.js';

/**
 * - `whole`: the upstream ended its answer. `rejected`: it refused the request itself, with a status of 4xx.
 * - `failed`: no connection, 429, 5xx, or an answer that broke off.
 * - `deadline`, `cancelled`: the gateway aborted it at the deadline, or when the client left.
 */
export type TryEnd = 'whole' | 'rejected' | 'failed' | 'deadline' | 'cancelled';

export interface TryFacts {
  /** Null without a response. */
  readonly status: number | null;
  readonly end: TryEnd;
  /** Null: the answer has none, as a 400. */
  readonly outcome: Outcome | null;
}

/** The metrics of one upstream. Times are in ms. */
export class UpstreamMetrics {
  readonly #label: { readonly upstream: string };

  /** @param upstream its name here */
  constructor(
    private readonly series: Series,
    upstream: string,
  ) {
    this.#label = { upstream };
    const named = { upstream: [upstream] };
    startAtZero(series.upstreamAnswers, { ...named, outcome: OUTCOMES });
    // An alert asks for a rate, and a new series shows none at its first event.
    startAtZero(series.upstreamTries, { ...named, status: ['none'], end: ['failed', 'deadline'] });
    startAtZero(series.upstreamTries, { ...named, status: ['200'], end: ['whole'] });
    startAtZero(series.breaker, named);
    for (const histogram of [series.upstreamTtft, series.upstreamLate]) startAtZero(histogram, named);
  }

  breaker(isOpen: boolean): void {
    this.series.breaker.set(this.#label, isOpen ? 1 : 0);
  }

  firstContent(ms: number): void {
    this.series.upstreamTtft.observe(this.#label, ms / 1000);
  }

  ended({ status, end, outcome }: TryFacts): void {
    this.series.upstreamTries.inc({ ...this.#label, status: status === null ? 'none' : String(status), end });
    if (outcome !== null) this.series.upstreamAnswers.inc({ ...this.#label, outcome });
  }

  /** @param ms past the deadline; negative in time */
  lastByte(ms: number): void {
    this.series.upstreamLate.observe(this.#label, Math.max(0, ms) / 1000);
  }
}

/** How a net ended. */
export interface NetFacts {
  /** The upstream's name here. */
  readonly upstream: string;
  readonly result: string;
  /** Null: it did not start. */
  readonly trigger: string | null;
  /** From its start to its end, ms; null: it did not start. */
  readonly ranMs: number | null;
}

/** Counts nets. @returns an observer of their ends */
export function netMetrics(series: Series): { ended(net: NetFacts): void } {
  return {
    ended: ({ upstream, result, trigger, ranMs }) => {
      series.nets.inc({ upstream, result, trigger: trigger ?? 'none' });
      if (ranMs !== null) series.netSeconds.inc({ upstream, result }, ranMs / 1000);
    },
  };
}
