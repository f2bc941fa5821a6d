/** Resident memory of processes over time, its slope, and waits for a core (Linux's /proc). */
import { readFileSync } from 'node:fs';
import { meanOf } from '../loadgen/summary.js';

const MB = 1e6;

/** Resident memory of a process in MB (10^6 bytes). @throws Error if the process has ended */
export function residentMb(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return (Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024) / MB;
  } catch {
    throw new Error(`process ${pid} has ended`);
  }
}

/**
 * Time in ms that the main thread of a process has waited for a core while it could run. On a machine with other work, a
 * part of each answer's time. 0 for a process that has ended.
 */
export function waitedMs(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6;
  } catch {
    return 0;
  }
}

/** Running child processes of a process. */
export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}

/** Slope of the least-squares line through the points, in units of y per unit of x; NaN for fewer than two points. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const [mx, my] = [meanOf(points.map(([x]) => x)), meanOf(points.map(([, y]) => y))];
  const sum = (of: (dx: number, dy: number) => number): number =>
    points.reduce((all, [x, y]) => all + of(x - mx, y - my), 0);
  return sum((dx, dy) => dx * dy) / sum((dx) => dx ** 2);
}
