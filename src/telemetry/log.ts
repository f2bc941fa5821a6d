/** The log: JSON lines by pino. Never prompts, answers or keys unless the operator asks (log-prompts). */
import { pino, type Logger } from 'pino';

export type { Logger };

export function createLogger(level: string): Logger {
  return pino({ level, base: { pid: process.pid }, redact: ['*.authorization', '*["x-api-key"]'] });
}
