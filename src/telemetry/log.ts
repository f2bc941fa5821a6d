/**
 * The log: JSON lines by pino on standard output. It holds no prompts, answers or keys unless the operator asks for
 * them.
 */
import { pino, type Logger } from 'pino';
import sonicBoom from 'sonic-boom';

export type { Logger };

/** Most UTF-16 units that wait for a slow reader. Further lines are lost. */
const MAX_WAITING_UNITS = 2 ** 20;

export function createLogger(level: string): Logger {
  // Writing never blocks: a full disk, a closed pipe or a stalled reader costs lines and does not stop the server.
  // With pino.destination, a process could not exit while it flushes to a full disk.
  const destination = new sonicBoom.SonicBoom({ fd: 1, sync: false, maxLength: MAX_WAITING_UNITS });
  destination.on('error', () => undefined);
  return pino({ level, base: { pid: process.pid } }, destination);
}
