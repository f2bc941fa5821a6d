/** The machine, and time on cores and memory of its processes (Linux's /proc). */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';

/** Linux counts the time of processes in hundredths of a second. */
const TICK_MS = 10;

/** Running child processes of a process. */
export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}

/** Time on cores so far of all threads of a process, ms. */
export function coreMs(pid: number): number {
  // The name of the program, in parentheses, may have spaces.
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(/\) (?!.*\) )/);
  const [user = NaN, system = NaN] = fields.split(' ').slice(11, 13).map(Number);
  return (user + system) * TICK_MS;
}

/** Time on cores so far of the children of a Sortie, its engine or its workers, ms. */
export const engineMs = (pid: number): number => childrenOf(pid).reduce((sum, child) => sum + coreMs(child), 0);

/** Resident memory of a process in MB (10^6 bytes). @throws Error if the process has ended */
export function residentMb(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return (Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024) / 1e6;
  } catch {
    throw new Error(`process ${pid} has ended`);
  }
}

/** Processor, and the load averages of 1, 5 and 15 minutes. */
export function machine(): string {
  const loads = loadavg().map((each) => each.toFixed(1));
  return `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, load ${loads.join(' ')}`;
}

/** Takes a core for some seconds, by a process that computes. */
export function takeCore(afterS: number, seconds: number): void {
  const loop = `const end = Date.now() + ${seconds * 1000}; while (Date.now() < end);`;
  spawn(process.execPath, ['-e', `setTimeout(() => { ${loop} }, ${afterS * 1000})`], { stdio: 'ignore' }).unref();
}
