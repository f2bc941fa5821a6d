/** Counts the nets of upstream models. Must not know: connections, text. */
import type { Series } from './series.js';

/** How a net ended. */
export interface NetFacts {
  /** The upstream's name here. */
  readonly upstream: string;
  readonly result: string;
  /** Null: it did not start. */
  readonly trigger: string | null;
  /** From its start to the deadline, ms; null: it did not start. */
  readonly leadMs: number | null;
  /** From its start to its end, ms; null: it did not start. */
  readonly ranMs: number | null;
}

export class NetMetrics {
  constructor(private readonly series: Series) {}

  ended({ upstream, result, trigger, leadMs, ranMs }: NetFacts): void {
    this.series.nets.inc({ upstream, result, trigger: trigger ?? 'none' });
    if (leadMs !== null) this.series.netLead.observe({ upstream }, Math.max(0, leadMs) / 1000);
    if (ranMs !== null) this.series.netSeconds.inc({ upstream, result }, ranMs / 1000);
  }
}
