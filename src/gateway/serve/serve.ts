/** `sortie serve`: starts the engine, the gateway and the log, and stops them in order after a signal. */
import cluster from 'node:cluster';
import { existsSync, readFileSync } from 'node:fs';
import { totalBudget } from '../api/params/budget.js';
import { namesOf } from '../api/params/depth.js';
import type { ApiContext, RequestPolicy } from '../api/context.js';
import { ScoreSum } from '../api/params/score-limit.js';
import { RefusalPace } from '../api/generation/refusal-pace.js';
import { loadServedModel } from '../api/load-served-model.js';
import { EMBEDDED_MODEL, OptionError, type ServeOptions } from '../../cli/options/config.js';
import { EngineClient } from '../engine-client/client.js';
import type { EngineOptions } from '../../protocol/engine-options.js';
import { createApp, createOpsApp } from '../http/app.js';
import { drain } from '../http/shutdown.js';
import type { GatewayContext } from '../http/context.js';
import { type ApiKey, checkKeyExits, loadApiKeys, reloadKeysOnSignal } from '../http/keys.js';
import { type Closing, closeAll, firstSignal, listenOn, openLog } from './serve-parts.js';
import { EncodingThread } from '../text/encoding/encoding-thread.js';
import { LoadProgress } from './start-bar.js';
import { chooseKernels } from '../../engine/model/kernels.js';
import type { Manifest } from '../../engine/model/manifest.js';
import { loadManifest, verifyFiles } from '../../engine/model/manifest-io.js';
import { collectGarbage } from '../../util/memory.js';
import { RequestMetrics } from '../telemetry/requests.js';
import { createSeries, type Series } from '../telemetry/series.js';
import { startTracing } from '../telemetry/tracing.js';
import { netMetrics } from '../telemetry/upstream-metrics.js';
import { UpstreamGateway } from '../upstream/gateway.js';
import { upstreamModels } from '../upstream/upstream.js';
import { WorkerLink } from './worker.js';
import { logEngine, warnOfLengths, warnOfSampling, warnOfShortContext, welcome } from './startup-log.js';

/** The label `model_name` of metrics without a local model and without `--model-name`. */
const UPSTREAMS = 'upstreams';

/** The server's options that the engine process gets. */
export function engineOptions(options: ServeOptions): EngineOptions {
  return {
    modelDir: options.model,
    device: options.device.kind,
    deviceIndex: options.device.index,
    threads: options.threads,
    kvMemoryBytes: options.kvMemory,
    maxRunning: options.maxRunning,
    maxQueue: options.maxQueue,
    prefillChunk: options.prefillChunk,
    kernels: options.kernels,
    prefixReuse: options.prefixReuse !== 'off',
    promptExit: options.promptExit,
    speculate: options.speculate,
    cacheDir: options.cacheDir,
  };
}

/** The request policy for all API keys. */
export function requestPolicy({
  defaultBudget,
  onMiss,
  minAccuracy,
}: Pick<ServeOptions, 'defaultBudget' | 'onMiss' | 'minAccuracy'>): RequestPolicy {
  return { defaultBudget: totalBudget(defaultBudget), onMiss, minExit: null, maxExit: null, minAccuracy };
}

/**
 * The manifest of the local model, checked against the options.
 * @throws OptionError, also if the default model is not there, as in an installed npm package
 */
function manifestOf({ model: dir, kernels, device }: ServeOptions, log: GatewayContext['log']): Manifest {
  if (dir === EMBEDDED_MODEL && !existsSync(dir))
    throw new OptionError(
      'the npm package holds no model: --model must name one, such as --model ORG/NAME of the Hugging Face Hub, a GGUF ' +
        'file, or a folder that `sortie convert` wrote; a clone of the repository has one in models/',
    );
  const manifest = loadManifest(dir);
  chooseKernels(manifest, { kernels, device: device.kind });
  warnOfLengths(manifest, log);
  warnOfSampling(manifest, log);
  return manifest;
}

/** Verifies the model folder while the engine loads it, so that the error names the damaged file. */
async function start(engine: EngineClient, dir: string, manifest: Manifest, signal: AbortSignal): Promise<void> {
  const checked = verifyFiles(dir, manifest, signal);
  // Requests wait for both. With a damaged file the process exits, and would cut requests that already run.
  const started = engine.start(checked);
  started.catch(() => undefined);
  await checked;
  await started;
  await collectGarbage();
}

type Parts = Pick<GatewayContext, 'options' | 'log' | 'series' | 'tracing'>;

/** The engine of the local model, which loads in its own process while the gateway prepares. */
function startEngine(manifest: Manifest, { options, log, series }: Parts, bar: NodeJS.WritableStream | null) {
  const engine = new EngineClient(engineOptions(options));
  const progress = bar === null ? null : new LoadProgress(engine, bar);
  const metrics = new RequestMetrics(series);
  metrics.observe(engine);
  logEngine(engine, log);
  warnOfShortContext(engine, log, options.kvMemory);
  const ending = new AbortController();
  const started = start(engine, options.model, manifest, ending.signal);
  started.catch(() => undefined);
  const close = async (): Promise<void> => {
    ending.abort();
    progress?.stop();
    await engine.close();
  };
  return { engine, metrics, progress, started, close };
}

/** @throws OptionError */
function upstreamsOf(
  options: ServeOptions,
  localNames: readonly string[],
  series: Series,
): UpstreamGateway | undefined {
  const models = upstreamModels(options, {
    localNames,
    env: process.env,
    readFile: (file) => readFileSync(file, 'utf8'),
    fault: (message) => new OptionError(message),
  });
  if (models.length === 0 && options.noLocal)
    throw new OptionError('--no-local needs --upstream, or upstreams in --config');
  // The local model, if there is one, is the net of all upstreams.
  const nets = { mode: options.net, observed: netMetrics(series) };
  return models.length === 0 ? undefined : new UpstreamGateway(models, series, nets);
}

/**
 * Checks the options against the model, and prepares what the HTTP server needs of it.
 * @param local null without a local model
 * @throws OptionError, or Error for an unusable model
 */
function gateway(
  parts: Parts & Pick<GatewayContext, 'version' | 'apiKeys' | 'peers'>,
  local: Pick<ApiContext, 'engine' | 'metrics'> | null,
  closing: Closing,
): GatewayContext {
  const { options, series } = parts;
  const policy = requestPolicy(options);
  const model = local === null ? null : loadServedModel(options.model, options.modelName);
  const layers = model?.exits.map(({ layer }) => layer) ?? null;
  const check = (keys: readonly ApiKey[]): void => {
    if (layers !== null) checkKeyExits(keys, layers);
  };
  check(parts.apiKeys);
  const upstreams = upstreamsOf(options, model === null ? [] : namesOf(model), series);
  const context: GatewayContext = {
    ...parts,
    policy,
    ...(upstreams !== undefined && { upstreams }),
    ...(local !== null &&
      model !== null && {
        api: {
          engine: local.engine,
          metrics: local.metrics,
          model,
          encoding: new EncodingThread(model.tokenizerFile),
          limits: { ...options, policy },
          scores: new ScoreSum(),
          refusals: new RefusalPace(),
          ...(upstreams !== undefined && { upstreamNames: upstreams.names }),
        },
      }),
    draining: false,
  };
  if (context.api !== undefined) closing.push(context.api.encoding);
  if (options.apiKeyFile !== null) closing.push({ close: reloadKeysOnSignal(context, check) });
  return context;
}

/** Opens the ports. Liveness is reported while the model loads. Readiness waits for the model. */
async function openPorts(context: GatewayContext, closing: Closing) {
  const { api, upstreams, options, apiKeys } = context;
  const app = await createApp(context);
  closing.push(app);
  const ops = options.opsPort === null ? null : await createOpsApp(context);
  if (ops !== null) closing.push(ops);
  const model = api?.model.name ?? upstreams?.names.join(', ') ?? '';
  const then = api === undefined ? 'for upstream models only' : 'the model loads';
  const behind = api !== undefined && upstreams !== undefined && { upstreams: upstreams.names };
  const url = await listenOn(context, app, ops, { model, ...behind, then });
  return { app, facts: { url, model, needsKey: apiKeys.length > 0 } };
}

/**
 * Serves until SIGTERM or SIGINT.
 * @returns the exit code: 0 after a drain
 * @throws OptionError, or Error for an unusable model or an unavailable port
 */
export async function serveForever(asked: ServeOptions, version: string): Promise<number> {
  const maxConnections = Math.ceil(asked.maxConnections / (cluster.isWorker ? asked.threads : 1));
  const options = { ...asked, maxConnections };
  const stopping = firstSignal();
  const apiKeys = loadApiKeys(options);
  const { logger: log, isPretty, print } = await openLog(options);
  const manifest = options.noLocal ? null : manifestOf(options, log);
  const [name = manifest?.name ?? UPSTREAMS] = options.modelName;
  const series = createSeries(name);
  // Without an engine its absence is no fault.
  if (manifest === null) series.registry.removeSingleMetric('sortie_engine_up');
  const tracing = await startTracing(process.env, version, log);
  const link = cluster.isWorker ? new WorkerLink(series.registry) : undefined;
  const parts = { options, log, series, tracing };
  const bar = isPretty && process.stderr.isTTY ? process.stderr : null;
  const local = manifest === null ? null : startEngine(manifest, parts, bar);
  const closing: Closing = [];
  try {
    const context = gateway({ ...parts, version, apiKeys, ...(link && { peers: link }) }, local, closing);
    const { app, facts } = await openPorts(context, closing);
    link?.ready();
    if (local?.engine.ready === null) local.progress?.start();
    const readied = local?.started.then(() => {
      if (isPretty) print(welcome(facts));
    });
    const signal = await Promise.race([stopping, Promise.resolve(readied).then(() => stopping)]);
    local?.progress?.stop();
    log.info({ signal, running: local?.metrics.live ?? app.responses.size }, 'draining');
    if (await drain(app, context, options.drainTimeout * 1000)) log.info('drained');
    return 0;
  } finally {
    await local?.close();
    await closeAll([...closing, ...(link ? [link] : [])], tracing);
  }
}
