/** Work that SIGINT and SIGTERM stop in order. */

/** Signals that stop the work; a second one kills the process immediately. */
const ENDING: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];

/** A signal stopped the work. The process exits with 128 plus the signal's number. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  /** @param outcome the state after the work, as a clause */
  constructor(
    readonly signal: NodeJS.Signals,
    outcome: string,
  ) {
    super(`stopped by ${signal}; ${outcome}`);
  }
}

/**
 * Runs work until it ends or a signal arrives.
 * @param outcome the state after interrupted work, as a clause for the error
 * @param run stops when its signal aborts, and throws the reason, which is Interrupted
 */
export async function interruptible<T>(outcome: string, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interruption = new AbortController();
  const interrupt = (signal: NodeJS.Signals): void => {
    interruption.abort(new Interrupted(signal, outcome));
  };
  for (const signal of ENDING) process.once(signal, interrupt);
  try {
    return await run(interruption.signal);
  } finally {
    for (const signal of ENDING) process.off(signal, interrupt);
  }
}
