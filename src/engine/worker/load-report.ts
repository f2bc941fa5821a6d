/** The load that each message reports. Must not know: steps. */
import type { Executor } from '../execution/executor.js';
import type { LoadSnapshot } from '../protocol.js';
import type { RouterAdapter, StepContext } from './router-adapter.js';

/** Interval at which the predicted wait is computed anew, ms: it takes about as long as planning a step. */
const WAIT_INTERVAL_MS = 50;

export class LoadReport {
  readonly #executor: Executor;
  readonly #router: RouterAdapter;
  readonly #kvBytes: number;
  readonly #reportsWait: boolean;
  /** The predicted wait of a new request, and when it was computed. */
  #wait = { ms: 0, at: -Infinity };

  constructor(
    executor: Executor,
    router: RouterAdapter,
    { kvBytes, reportsWait = false }: { readonly kvBytes: number; readonly reportsWait?: boolean },
  ) {
    this.#executor = executor;
    this.#router = router;
    this.#kvBytes = kvBytes;
    this.#reportsWait = reportsWait;
  }

  take(context: StepContext): LoadSnapshot {
    const { table } = this.#executor;
    return {
      running: context.live.length,
      waiting: context.waiting.length,
      deferred: 0,
      kvUsed: table.used('live') / this.#kvBytes,
      kvCached: table.used('cached') / this.#kvBytes,
      ...(this.#reportsWait && { waitMs: this.#waitMs(context) }),
    };
  }

  #waitMs(context: StepContext): number {
    const isIdle = context.live.length + context.waiting.length === 0;
    if (isIdle || context.now - this.#wait.at >= WAIT_INTERVAL_MS)
      this.#wait = { ms: this.#router.predictedWaitMs(context), at: context.now };
    return this.#wait.ms;
  }
}
