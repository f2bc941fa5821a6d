/**
 * The log by pino on standard output: JSON lines, or readable lines on a terminal. It holds no prompts, answers or keys
 * unless the operator asks for them.
 */
import { pino, type LogFn, type Logger } from 'pino';
import sonicBoom from 'sonic-boom';

export type { Logger };

/** Most UTF-16 units that wait for a slow reader. Further lines are lost. */
const MAX_WAITING_UNITS = 2 ** 20;
/** Most units of a write with several lines. Linux does not mix writes of this size to one pipe: workers share it. */
const MAX_WRITE_UNITS = 4096;

/** @param isTerminal whether standard output is a terminal: a person reads the log */
export async function createLog(level: string, isTerminal: boolean) {
  // Writing never blocks: a full disk, a closed pipe or a stalled reader costs lines and does not stop the server.
  // With pino.destination, a process could not exit while it flushes to a full disk.
  const destination = new sonicBoom.SonicBoom({
    fd: 1,
    sync: false,
    maxLength: MAX_WAITING_UNITS,
    maxWrite: MAX_WRITE_UNITS,
  });
  destination.on('error', () => undefined);
  const pretty = isTerminal ? await prettyLines() : null;
  const stream = pretty === null ? destination : { write: (line: string) => destination.write(pretty(line)) };
  return {
    logger: pino({ level, base: { pid: process.pid }, hooks: { logMethod: dropEmpty } }, stream),
    isPretty: isTerminal,
    /** Writes a text that is not a log line, in order with the lines. */
    print: (text: string) => destination.write(text),
  };
}

/** Drops lines with an empty text: a library that must log gets one. */
function dropEmpty(this: Logger, args: Parameters<LogFn>, method: LogFn): void {
  if (args[0] !== '') method.apply(this, args);
}

/** @returns a function that makes a readable line of a JSON line */
export async function prettyLines(isColoured = (process.env.NO_COLOR ?? '') === ''): Promise<(line: string) => string> {
  const { default: pinoPretty } = await import('pino-pretty');
  const format = pinoPretty.prettyFactory({
    colorize: isColoured,
    translateTime: 'SYS:HH:MM:ss',
    ignore: 'pid,hostname',
    singleLine: true,
  });
  return (line) => format(condensed(JSON.parse(line) as Line));
}

interface Line extends Record<string, unknown> {
  readonly msg?: string;
}

/** Shortens the line of a request to the facts of one glance; the JSON log has them all. */
function condensed(line: Line): Line {
  if (line.msg !== 'request') return line;
  const { method, route, status, ms, sortie, reqId, ...others } = line;
  const rest = { ...others, id: reqId, client: undefined, model: undefined };
  const msg = `${String(method)} ${String(route)} ${String(status)} in ${Math.round(Number(ms))} ms`;
  if (typeof sortie !== 'object' || sortie === null) return { ...rest, msg };
  const { source, exit_layers, budget_ms, outcome, met, landed, plan, ttft_ms, queue_ms } = sortie as Line;
  return {
    ...rest,
    msg,
    ...(source !== 'local' && { source }),
    plan: planText(plan as Line | undefined),
    exit_layers,
    ...(typeof ttft_ms === 'number' && { ttft_ms: Math.round(ttft_ms) }),
    ...(typeof queue_ms === 'number' && { queue_ms: Math.round(queue_ms) }),
    ...(met !== undefined && { budget_ms, outcome }),
    ...(landed !== undefined && { landed_at: (landed as Line).at_token }),
  };
}

/** The plan at admission in words, such as "exit 15, guaranteed, load". The reason `deepest` says nothing. */
function planText({ exit_layer: exit, service_class: name, reason }: Line = {}): string {
  const parts = [typeof exit === 'number' ? `exit ${exit}` : null, name === 'none' ? null : name, reason];
  return parts.filter((part) => typeof part === 'string' && part !== 'deepest').join(', ');
}
