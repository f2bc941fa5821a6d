/** The load that each message reports. Must not know: steps. */
import type { LoadSnapshot } from '../../protocol/index.js';
import type { SlotTable } from '../scheduler/kv/slot-table.js';
import type { Scheduler } from '../scheduler/scheduler.js';

/** Interval at which the wait of a new request is predicted, ms. The prediction takes as long as planning a step. */
const WAIT_INTERVAL_MS = 1000;

export class LoadReport {
  readonly #kvBytes: number;
  /** The predicted wait of a new request, and when it was computed. */
  #wait = { ms: 0, at: -Infinity };

  constructor(
    private readonly table: SlotTable,
    private readonly scheduler: Scheduler,
    { kvBytes }: { readonly kvBytes: number },
  ) {
    this.#kvBytes = kvBytes;
  }

  take(now: number): LoadSnapshot {
    const { running, waiting } = this.scheduler.slots;
    return {
      running: running.length,
      waiting: waiting.length,
      deferred: 0,
      kvUsed: this.table.used('live') / this.#kvBytes,
      kvCached: this.table.used('cached') / this.#kvBytes,
      waitMs: this.#waitMs(now),
    };
  }

  #waitMs(now: number): number {
    const { running, waiting } = this.scheduler.slots;
    if (running.length + waiting.length === 0 || now - this.#wait.at >= WAIT_INTERVAL_MS)
      this.#wait = { ms: this.scheduler.predictedWaitMs(now), at: now };
    return this.#wait.ms;
  }
}
