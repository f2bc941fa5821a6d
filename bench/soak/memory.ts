/**
 * Resident memory of processes over time.
 *
 * Knows: Linux's /proc, least squares. Must not know: what the processes do.
 */
import { readFileSync } from 'node:fs';

const MB = 1e6;

/** Resident memory of a process in MB (10^6 bytes). @throws Error when it has ended */
export function residentMb(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return (Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024) / MB;
  } catch {
    throw new Error(`process ${pid} has ended`);
  }
}

/** Processes that this one started and that still run. */
export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}

/** Slope of the least-squares line through the points: units of y per unit of x; NaN of fewer than two. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const mx = mean(points.map(([x]) => x));
  const my = mean(points.map(([, y]) => y));
  const sxy = points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0);
  const sxx = points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0);
  return sxy / sxx;
}
