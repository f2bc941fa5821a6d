/** `sortie serve`: starts the engine, the gateway and the log, and stops them in order after a signal. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { RequestPolicy } from './api/params/policy.js';
import { loadServedModel, type ServedModel } from './api/served-model.js';
import { monotonicMs } from './util/clock.js';
import { OptionError, type ServeOptions } from './config.js';
import { EngineClient } from './engine/client/client.js';
import type { Engine } from './engine/client/engine.js';
import type { EngineOptions } from './engine/client/options.js';
import { createApp, createOpsApp } from './http/app.js';
import { drain } from './http/shutdown.js';
import type { HttpContext } from './http/context.js';
import { checkKeyExits, loadApiKeys } from './http/keys.js';
import { EncodingThread } from './text/encoding/encoding-thread.js';
import { loadManifest, verifyFiles } from './model/manifest-io.js';
import { collectGarbage } from './util/memory.js';
import { createLogger, type Logger } from './telemetry/log.js';
import { watchLoopLag } from './telemetry/loop-lag.js';
import { RequestMetrics } from './telemetry/requests.js';
import { createSeries } from './telemetry/series.js';
import { startTracing } from './telemetry/tracing.js';

/** The server's options that the engine process gets. */
export function engineOptions(options: ServeOptions): EngineOptions {
  return {
    modelDir: options.model,
    device: options.device,
    threads: options.threads,
    kvMemoryBytes: options.kvMemory,
    maxRunning: options.maxRunning,
    maxQueue: options.maxQueue,
    prefillChunk: options.prefillChunk,
    kernels: options.kernels,
    prefixReuse: options.prefixReuse !== 'off',
    speculate: options.speculate,
    policy: {
      attainmentWeight: options.attainmentWeight,
      noBudgetShare: options.noBudgetShare,
      shedDepth: options.shedDepth,
      arrivalHeadroom: options.arrivalHeadroom,
      maxStallMs: options.maxStall,
    },
    cacheDir: options.cacheDir,
    recalibrate: options.recalibrate,
  };
}

function checkExit({ exits }: Pick<ServedModel, 'exits'>, flag: string, exit: number | null): void {
  const layers = exits.map(({ layer }) => layer);
  if (exit === null || layers.includes(exit)) return;
  throw new OptionError(`${flag} must be an exit of the model (${layers.join(', ')}), got "${exit}"`);
}

/**
 * The request policy for all API keys.
 * @throws OptionError for a bound that is not an exit of the model, or for bounds out of order
 */
export function requestPolicy(
  { exits }: Pick<ServedModel, 'exits'>,
  { defaultBudget, minExit, maxExit }: Pick<ServeOptions, 'defaultBudget' | 'minExit' | 'maxExit'>,
): RequestPolicy {
  checkExit({ exits }, '--min-exit', minExit);
  checkExit({ exits }, '--max-exit', maxExit);
  if (minExit !== null && maxExit !== null && minExit > maxExit)
    throw new OptionError(`--min-exit must be at most --max-exit (${maxExit}), got "${minExit}"`);
  const budget =
    defaultBudget === null ? null : { totalMs: defaultBudget, ttftMs: null, tpotMs: null, onMiss: 'continue' as const };
  return { defaultBudget: budget, minExit, maxExit };
}

/** Binds a port. @throws Error with a message for the operator: port in use, unknown address, or missing permission */
async function listen(app: FastifyInstance, host: string, port: number, option: string): Promise<number> {
  try {
    await app.listen({ host, port });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = {
      EADDRINUSE: 'it is in use',
      EACCES: 'this user has no permission',
      EADDRNOTAVAIL: 'this machine has no such address',
    }[code ?? ''];
    throw new Error(
      `cannot listen on ${host} port ${port}: ${why ?? code ?? 'unknown error'} (see --host and --${option})`,
    );
  }
  return (app.server.address() as AddressInfo).port;
}

/**
 * Repeated signals within this time count as one. On Ctrl+C the terminal signals all processes of `npm start`, and npm
 * forwards its own signal as well.
 */
const SAME_SIGNAL_MS = 1000;

/** Resolves with the first of these signals. A later one exits the process immediately. */
async function firstSignal(): Promise<NodeJS.Signals> {
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

/** Logs the life of the engine process for the operator. */
export function logEngine(engine: Engine, log: Logger): void {
  // A restarted engine loads the same folder, so the same fault is logged once.
  let loggedFault: string | null = null;
  engine.on('ready', ({ calibration, lengthPriorFault = null, ...ready }) => {
    const { device, kernels, exits, maxLength, slots, loadMs, calibrateMs } = ready;
    const costs = calibration?.source;
    log.info({ device, kernels, exits, maxLength, slots, loadMs, calibrateMs, costs }, 'engine ready');
    if (calibration?.note != null)
      log.warn({ reason: calibration.note }, 'the cache of measured step costs is unusable');
    if (lengthPriorFault !== null && lengthPriorFault !== loggedFault) {
      log.warn({ reason: lengthPriorFault }, 'the model folder has no usable output-length prior');
    }
    loggedFault = lengthPriorFault;
  });
  engine.on('down', (message) => {
    log.error({ reason: message }, 'engine down, restarting it');
  });
}

/** Verifies the model folder while the engine loads it, so that the error names the damaged file. */
async function start(engine: EngineClient, dir: string, signal: AbortSignal): Promise<void> {
  const checked = verifyFiles(dir, loadManifest(dir), signal);
  // Requests wait for both. With a damaged file the process exits, and would cut requests that already run.
  const started = engine.start(checked);
  started.catch(() => undefined);
  await checked;
  await started;
  await collectGarbage();
}

/**
 * Serves until SIGTERM or SIGINT.
 * @returns the exit code: 0 after a drain
 * @throws OptionError, or Error for an unusable model or an unavailable port
 */
export async function serveForever(options: ServeOptions, version: string): Promise<number> {
  const stopping = firstSignal();
  const apiKeys = loadApiKeys(options);
  const log = createLogger(options.logLevel);
  const model = loadServedModel(options.model, options.modelName);
  checkExit(model, '--default-exit', options.defaultExit);
  const policy = requestPolicy(model, options);
  checkKeyExits(
    apiKeys,
    policy,
    model.exits.map(({ layer }) => layer),
  );
  const engine = new EngineClient(engineOptions(options));
  const encoding = new EncodingThread(model.tokenizerFile);
  const series = createSeries(model.name);
  const metrics = new RequestMetrics(series);
  metrics.observe(engine);
  const tracing = await startTracing(process.env, version, log);
  tracing?.observe(engine);
  logEngine(engine, log);
  const context: HttpContext = {
    api: { engine, model, encoding, limits: { ...options, policy }, metrics },
    series,
    options,
    apiKeys,
    tracing,
    version,
    log,
    draining: false,
  };
  const stopWatching = watchLoopLag(series);
  const ending = new AbortController();
  const app = await createApp(context);
  const ops = options.opsPort === null ? null : await createOpsApp(context, app);
  try {
    // Liveness is reported while the model loads. Readiness waits for the model.
    const { host } = options;
    const opsPort = ops === null ? null : await listen(ops, host, options.opsPort ?? 0, 'ops-port');
    const port = await listen(app, host, options.port, 'port');
    const more = opsPort === null ? 'docs at /docs' : `metrics and docs on port ${opsPort}`;
    log.info(
      { port, ...(opsPort === null ? {} : { opsPort }), host, model: model.name },
      `listening on http://localhost:${port} (${more})`,
    );
    const signal = await Promise.race([stopping, start(engine, options.model, ending.signal).then(() => stopping)]);
    log.info({ signal, running: metrics.live }, 'draining');
    context.draining = true;
    const running = {
      get live() {
        return metrics.live;
      },
      stop: () => {
        log.warn({ running: metrics.live }, 'drain time-out, cancelling the running requests');
        engine.cancelAll('cancelled');
        void encoding.close();
      },
    };
    if (await drain(app, running, options.drainTimeout * 1000)) log.info('drained');
    return 0;
  } finally {
    ending.abort();
    await engine.close();
    await encoding.close();
    await app.close();
    await ops?.close();
    stopWatching();
    const sent = (await tracing?.shutdown()) ?? true;
    // The exporter's retries would keep the process alive. main.ts has set the exit code by this time.
    if (!sent) setTimeout(() => process.exit(), 50).unref();
  }
}
