/**
 * Ends synchronous work that takes too long: a regular expression or a template of a model folder may never end.
 *
 * The time limit of vm holds for all functions that a script calls, and a call costs 20 us. Must not know: the work.
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
