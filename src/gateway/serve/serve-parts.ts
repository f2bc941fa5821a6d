/** Signals, ports and the log of `sortie serve`. */
import cluster from 'node:cluster';
import { once } from 'node:events';
import type { FastifyInstance } from 'fastify';
import { chooseHost, listen, urlOf } from './address.js';
import type { ServeOptions } from '../../cli/options/config.js';
import type { GatewayContext } from '../http/context.js';
import { warnOfKeyFile, warnOfVariables } from './startup-log.js';
import { createLog } from '../telemetry/log.js';
import { monotonicMs } from '../../util/clock.js';

/** Time that a slow reader of the log has for the last lines. */
const LOG_FLUSH_MS = 2000;

/** The parts of a server that end with it, in this order. */
export type Closing = { close(): unknown }[];

/**
 * Repeated signals within this time count as one. On Ctrl+C the terminal signals all processes of `npm start`, and npm
 * forwards its own signal as well.
 */
const SAME_SIGNAL_MS = 1000;

/**
 * Resolves with the first of these signals. A later one exits the process immediately. `close-with-grace` has no such
 * interval: it would cut the drain at the signal that npm forwards.
 */
export async function firstSignal(): Promise<NodeJS.Signals> {
  const signals = ['SIGTERM', 'SIGINT'] as const;
  const [signal] = (await Promise.race(signals.map((name) => once(process, name)))) as [NodeJS.Signals];
  const first = monotonicMs();
  for (const name of signals) {
    process.on(name, () => {
      if (monotonicMs() - first >= SAME_SIGNAL_MS) process.exit(130);
    });
  }
  return signal;
}

/** Opens the log, and warns of variables and of a key file that others may read. */
export async function openLog({ logLevel, apiKeyFile }: ServeOptions) {
  const opened = await createLog(logLevel, process.stdout.isTTY);
  // The supervisor of workers has said it.
  if (cluster.isWorker) return opened;
  warnOfVariables(process.env, opened.logger);
  warnOfKeyFile(apiKeyFile, opened.logger);
  return opened;
}

/** Closes the parts in their order, and sends the traces that are left. */
export async function closeAll(closing: Closing, tracing: GatewayContext['tracing']): Promise<void> {
  for (const each of closing) await each.close();
  const sent = (await tracing?.shutdown()) ?? true;
  // The exporter's retries would keep the process alive. main.ts has set the exit code by this time.
  if (!sent) setTimeout(() => process.exit(), 50).unref();
  // A thread that writes to a log whose reader stands still blocks an exit as well.
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), LOG_FLUSH_MS).unref();
}

/**
 * Listens on the ports of the options, and logs it.
 * @param ops serves the operations port; null without one
 * @param said the models, and the rest of the log line
 */
export async function listenOn(
  { options, apiKeys, log }: GatewayContext,
  app: FastifyInstance,
  ops: FastifyInstance | null,
  said: { readonly model: string; readonly upstreams?: readonly string[]; readonly then: string },
): Promise<string> {
  const { address: host, reason } = chooseHost(options.host, apiKeys.length);
  const opsPort = ops === null ? null : await listen(ops, host, options.opsPort ?? 0, 'ops-port');
  const port = await listen(app, host, options.port, 'port');
  const url = urlOf(host, port);
  const { then, ...models } = said;
  log.info({ port, ...(opsPort !== null && { opsPort }), host, reason, ...models }, `listening on ${url}, ${then}`);
  return url;
}
