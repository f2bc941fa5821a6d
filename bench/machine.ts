/** The machine of a measurement, as benches print it. */
import { cpus, loadavg } from 'node:os';

export const processor = (): string => `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`;

/** Processor, and the load averages of 1, 5 and 15 minutes. */
export function machine(): string {
  const loads = loadavg().map((each) => each.toFixed(1));
  return `${processor()}, load ${loads.join(' ')}`;
}
