/** Time of processes on cores (Linux's /proc). */
import { readFileSync } from 'node:fs';
import { childrenOf } from './soak/memory.js';

/** Linux counts the time of processes in hundredths of a second. */
const TICK_MS = 10;

/** Time on cores so far of all threads of a process, ms. */
export function coreMs(pid: number): number {
  // The name of the program, in parentheses, may have spaces.
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(/\) (?!.*\) )/);
  const [user = NaN, system = NaN] = fields.split(' ').slice(11, 13).map(Number);
  return (user + system) * TICK_MS;
}

/** Time on cores so far of the engine of a Sortie, its child process, ms. */
export const engineMs = (pid: number): number => childrenOf(pid).reduce((sum, child) => sum + coreMs(child), 0);
