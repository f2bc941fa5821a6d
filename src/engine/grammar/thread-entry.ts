/** Begins the grammar thread: tells its number, by which its processor time is read, before it loads the library. */
import { readlinkSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import type { FromGrammars } from './messages.js';

/** The kernel's number of this thread; null where there is no /proc. */
function threadNumber(): number | null {
  try {
    return Number(/\/task\/(\d+)$/.exec(readlinkSync('/proc/thread-self'))?.[1] ?? NaN) || null;
  } catch {
    return null;
  }
}

parentPort?.postMessage({ type: 'begun', thread: threadNumber() } satisfies FromGrammars);
await import('./thread.js');
