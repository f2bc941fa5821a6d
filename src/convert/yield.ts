/**
 * A conversion computes for minutes without waiting for anything: here it lets the process notice signals.
 *
 * Knows: abort signals. Must not know: who aborts, and why.
 */
import { setImmediate as othersRan } from 'node:timers/promises';

/** Lets events be handled. Throws the reason of a signal that is aborted by then. */
export async function yieldToEventLoop(signal: AbortSignal | undefined): Promise<void> {
  await othersRan();
  signal?.throwIfAborted();
}
