/** The load that each message reports. Must not know: steps. */
import type { LoadSnapshot } from '../../protocol/index.js';
import type { SlotTable } from '../scheduler/kv/slot-table.js';
import type { Scheduler } from '../scheduler/scheduler.js';

export class LoadReport {
  readonly #kvBytes: number;
  readonly #intervalMs: number | null;
  /** The predicted wait of a new request, and when it was computed. */
  #wait = { ms: 0, at: -Infinity };

  constructor(
    private readonly table: SlotTable,
    private readonly scheduler: Scheduler,
    { kvBytes, waitIntervalMs }: { readonly kvBytes: number; readonly waitIntervalMs?: number },
  ) {
    this.#kvBytes = kvBytes;
    this.#intervalMs = waitIntervalMs ?? null;
  }

  take(now: number): LoadSnapshot {
    const { running, waiting } = this.scheduler.slots;
    return {
      running: running.length,
      waiting: waiting.length,
      deferred: 0,
      kvUsed: this.table.used('live') / this.#kvBytes,
      kvCached: this.table.used('cached') / this.#kvBytes,
      ...(this.#intervalMs !== null && { waitMs: this.#waitMs(now, this.#intervalMs) }),
    };
  }

  #waitMs(now: number, intervalMs: number): number {
    const { running, waiting } = this.scheduler.slots;
    if (running.length + waiting.length === 0 || now - this.#wait.at >= intervalMs)
      this.#wait = { ms: this.scheduler.predictedWaitMs(now), at: now };
    return this.#wait.ms;
  }
}
