/** The processor time of a thread of this process. Must not know: what it computes. */
import { readFileSync } from 'node:fs';

/** Linux counts in these units for every architecture that Node.js runs on. */
const TICK_MS = 10;

/** @param thread the kernel's number @returns milliseconds since its start; null where the system does not tell */
export function threadTimeMs(thread: number | null): number | null {
  if (thread === null) return null;
  try {
    const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'latin1');
    // The name, in parentheses, may hold spaces. User and system time are fields 14 and 15 of the line.
    const [user = NaN, system = NaN] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13)
      .map(Number);
    return Number.isFinite(user + system) ? (user + system) * TICK_MS : null;
  } catch {
    return null;
  }
}
