/** Lets the process notice signals: a conversion computes for minutes without a pause. */
import { setImmediate as othersRan } from 'node:timers/promises';

/** Lets the event loop run once. Throws the abort reason if the signal is aborted. */
export async function yieldToEventLoop(signal: AbortSignal | undefined): Promise<void> {
  await othersRan();
  signal?.throwIfAborted();
}
