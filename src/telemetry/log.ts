/** The log: JSON lines by pino on standard output. Never prompts, answers or keys unless the operator asks. */
import { pino, type Logger } from 'pino';
import sonicBoom from 'sonic-boom';

export type { Logger };

/** Lines that wait for a slow reader, UTF-16 units; beyond it lines are lost. */
const MOST_WAITING = 2 ** 20;

export function createLogger(level: string): Logger {
  // A full disk, a closed pipe or a reader that stalls costs the lines, never the server: writing must not block.
  // (pino.destination would flush a full disk for ever before it lets the process end.)
  const destination = new sonicBoom.SonicBoom({ fd: 1, sync: false, maxLength: MOST_WAITING });
  destination.on('error', () => undefined);
  return pino({ level, base: { pid: process.pid } }, destination);
}
