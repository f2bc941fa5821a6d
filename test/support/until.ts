/** Waits for what another process, thread or connection does. */
import { yieldFor } from './moved-clock.js';

/** A machine that is busy with other work takes long. */
const MOST_MS = 120_000;
const realNow = performance.now.bind(performance);

/**
 * Polls until a condition holds. A condition that throws or rejects does not hold.
 * @param what names the wait in the error
 * @param pauseMs between two polls
 * @throws Error if it does not hold within two minutes
 */
export async function until(what: string, isTrue: () => boolean | Promise<boolean>, pauseMs = 10): Promise<void> {
  const end = realNow() + MOST_MS;
  let fault: unknown;
  while (realNow() < end) {
    try {
      if (await isTrue()) return;
    } catch (error) {
      fault = error;
    }
    await yieldFor(pauseMs);
  }
  throw new Error(`${what}: not within ${MOST_MS / 1000} s`, { cause: fault });
}
