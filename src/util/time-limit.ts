/**
 * Ends synchronous work that takes too long: a regular expression or a template of a model folder may never end.
 *
 * The time limit of vm holds for all functions that a script calls, and a call costs 20 us. Must not know: the work.
 *
 * Detects a process or thread that lives but is silent: stuck in a native call, stopped, or in an endless loop.
 *
 * The watchdog counts checks and not time: if this process itself was suspended, the suspension is one check.
 */
import { createContext, Script } from 'node:vm';

/** The work did not end within its limit. */
export class TimeLimitError extends Error {
  override readonly name = 'TimeLimitError';

  constructor(readonly ms: number) {
    super(`it takes more than ${ms / 1000} s`);
  }
}

const scope = createContext({ work: undefined as unknown });
const script = new Script('work()');

/** Time that the process has computed, in ms. */
function computedMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/**
 * The limit counts time that the process computes. So work that had to wait for a core begins again, once. It holds the
 * event loop for at most twice the limit.
 * @param work without effects
 * @throws TimeLimitError, or an error of the work
 */
export function within<T>(ms: number, work: () => T): T {
  const start = computedMs();
  for (let isLast = false; ; isLast = true) {
    scope.work = work;
    try {
      return script.runInContext(scope, { timeout: ms }) as T;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
      if (isLast || computedMs() - start > ms / 2) throw new TimeLimitError(ms);
    } finally {
      scope.work = undefined;
    }
  }
}

/** Unanswered checks after which the process counts as silent. A long step ends earlier. */
const CHECKS = 6;

export class Watchdog {
  #timer: NodeJS.Timeout | null = null;
  #unheard = 0;

  /**
   * @param ask makes the watched side reply
   * @param silent called once if the watched side does not reply
   * @param checks unanswered checks after which the next check calls `silent`
   */
  constructor(
    private readonly ask: () => void,
    private readonly silent: () => void,
    private readonly checks = CHECKS,
  ) {}

  /** Starts to watch; a running watch starts again. */
  start(silenceMs: number): void {
    this.stop();
    this.#timer = setInterval(() => {
      this.#check();
    }, silenceMs / this.checks);
    this.#timer.unref();
  }

  /** The watched side sent a message. */
  heard(): void {
    this.#unheard = 0;
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#unheard = 0;
  }

  #check(): void {
    if (this.#unheard < this.checks) {
      this.#unheard++;
      this.ask();
      return;
    }
    this.stop();
    this.silent();
  }
}
