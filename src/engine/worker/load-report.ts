/** The load that each message reports. Must not know: steps. */
import type { Executor } from '../execution/executor.js';
import type { LoadSnapshot } from '../../protocol/index.js';
import type { Router } from '../../scheduler/router.js';
import { stateOf, type StepContext } from './views.js';

export class LoadReport {
  readonly #kvBytes: number;
  readonly #intervalMs: number | null;
  /** The predicted wait of a new request, and when it was computed. */
  #wait = { ms: 0, at: -Infinity };

  constructor(
    private readonly executor: Executor,
    private readonly router: Router,
    { kvBytes, waitIntervalMs }: { readonly kvBytes: number; readonly waitIntervalMs?: number },
  ) {
    this.#kvBytes = kvBytes;
    this.#intervalMs = waitIntervalMs ?? null;
  }

  take(context: StepContext): LoadSnapshot {
    const { table } = this.executor;
    return {
      running: context.live.length,
      waiting: context.waiting.length,
      deferred: 0,
      kvUsed: table.used('live') / this.#kvBytes,
      kvCached: table.used('cached') / this.#kvBytes,
      ...(this.#intervalMs !== null && { waitMs: this.#waitMs(context, this.#intervalMs) }),
    };
  }

  #waitMs(context: StepContext, intervalMs: number): number {
    const isIdle = context.live.length + context.waiting.length === 0;
    if (isIdle || context.now - this.#wait.at >= intervalMs)
      this.#wait = { ms: this.router.predictedWaitMs(stateOf(context, this.router.shape)), at: context.now };
    return this.#wait.ms;
  }
}
