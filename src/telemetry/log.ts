/** The log: JSON lines by pino on standard output. Never prompts, answers or keys unless the operator asks. */
import { pino, type Logger } from 'pino';

export type { Logger };

export function createLogger(level: string): Logger {
  const destination = pino.destination({ fd: 1, sync: true });
  // A full disk or a closed pipe behind the log costs the lines, never the server.
  destination.on('error', () => undefined);
  return pino({ level, base: { pid: process.pid } }, destination);
}
