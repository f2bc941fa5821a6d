/** Repeats work that a passing fault stopped. */
import { setTimeout as sleep } from 'node:timers/promises';
import { HubError, PassingError } from './hub-error.js';

/** Pauses between attempts in milliseconds; as many attempts without progress follow the first. */
export const PAUSES_MS: readonly number[] = [500, 1000, 2000, 4000, 8000, 16_000];

/** The longest pause that the hub may ask for: an operator waits for it. */
const MOST_ASKED_S = 300;

/**
 * @param attempt may return progress by throwing after it called `progressed`, which starts the count of attempts again
 * @throws HubError after the last attempt, or the reason of an abort
 */
export async function withRetries<T>(
  attempt: (progressed: () => void) => Promise<T>,
  signal: AbortSignal,
  pausesMs: readonly number[] = PAUSES_MS,
): Promise<T> {
  let failures = 0;
  for (;;) {
    try {
      return await attempt(() => {
        failures = 0;
      });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof PassingError)) throw error;
      const pause = pausesMs[failures++];
      if (pause === undefined) throw new HubError(`${error.message}, ${failures} times in a row`);
      if ((error.retryAfterS ?? 0) > MOST_ASKED_S)
        throw new HubError(`${error.message}, and asks to wait for ${error.retryAfterS} s`);
      await sleep(Math.max(pause, (error.retryAfterS ?? 0) * 1000), undefined, { signal }).catch(() => {
        signal.throwIfAborted();
      });
    }
  }
}
