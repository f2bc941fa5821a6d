/** `sortie serve`: starts the engine, the gateway and the log, and stops them in order after a signal. */
import { existsSync } from 'node:fs';
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
import type { HttpContext } from '../http/context.js';
import { type ApiKey, checkKeyExits, loadApiKeys } from '../http/keys.js';
import { type Closing, closeAll, firstSignal, listenOn, openLog, reloadKeys } from './serve-parts.js';
import { upstreamGateway } from './upstream-gateway.js';
import { EncodingThread } from '../text/encoding/encoding-thread.js';
import { LoadProgress } from './start-bar.js';
import { chooseKernels } from '../../engine/model/kernels.js';
import type { Manifest } from '../../engine/model/manifest.js';
import { loadManifest, verifyFiles } from '../../engine/model/manifest-io.js';
import { collectGarbage } from '../../util/memory.js';
import { logSlowSteps } from '../telemetry/slow-steps.js';
import { watchLoopLag } from '../telemetry/loop-lag.js';
import { RequestMetrics } from '../telemetry/requests.js';
import { createSeries } from '../telemetry/series.js';
import { watchWait } from '../telemetry/wait-estimate.js';
import { startTracing } from '../telemetry/tracing.js';
import { logEngine, warnOfLengths, warnOfSampling, warnOfShortContext, welcome } from './startup-log.js';

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

/** @throws OptionError if the default model is not there, as in an installed npm package */
function checkEmbeddedModel(dir: string): void {
  if (dir !== EMBEDDED_MODEL || existsSync(dir)) return;
  throw new OptionError(
    'the npm package holds no model: --model must name one, such as --model ORG/NAME of the Hugging Face Hub, a GGUF ' +
      'file, or a folder that `sortie convert` wrote; a clone of the repository has one in models/',
  );
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

type Parts = Pick<HttpContext, 'options' | 'version' | 'apiKeys' | 'log' | 'series' | 'tracing'> &
  Pick<ApiContext, 'engine'> & { readonly metrics: RequestMetrics };

/**
 * Checks the options against the model, and prepares what the HTTP server needs of it.
 * @throws OptionError, or Error for an unusable model
 */
function gateway({ engine, metrics, ...parts }: Parts, closing: Closing): HttpContext {
  const { options, apiKeys, series } = parts;
  const model = loadServedModel(options.model, options.modelName);
  const policy = requestPolicy(options);
  const layers = model.exits.map(({ layer }) => layer);
  const checkKeys = (keys: readonly ApiKey[]): void => {
    checkKeyExits(keys, policy, layers);
  };
  checkKeys(apiKeys);
  const encoding = new EncodingThread(model.tokenizerFile);
  closing.push(encoding);
  const waitMs = watchWait(engine, metrics);
  const upstreams = upstreamGateway(options, namesOf(model), series);
  const context: HttpContext = {
    ...parts,
    api: {
      engine,
      model,
      encoding,
      limits: { ...options, policy },
      metrics,
      scores: new ScoreSum(),
      refusals: new RefusalPace(),
      ...(upstreams !== undefined && { upstreamNames: upstreams.names }),
    },
    ...(upstreams !== undefined && { upstreams }),
    waitMs,
    draining: false,
  };
  closing.push({ close: watchLoopLag(series) });
  if (options.apiKeyFile !== null) closing.push({ close: reloadKeys(context, checkKeys) });
  return context;
}

/** Opens the ports. Liveness is reported while the model loads. Readiness waits for the model. */
async function openPorts(context: HttpContext, closing: Closing) {
  const app = await createApp(context);
  closing.push(app);
  const ops = context.options.opsPort === null ? null : await createOpsApp(context, app);
  if (ops !== null) closing.push(ops);
  const model = context.api.model.name;
  const { url, docsUrl } = await listenOn(context, app, ops, { model, then: 'the model loads' });
  return { app, facts: { url, docsUrl, model, needsKey: context.apiKeys.length > 0 } };
}

/**
 * Serves until SIGTERM or SIGINT.
 * @returns the exit code: 0 after a drain
 * @throws OptionError, or Error for an unusable model or an unavailable port
 */
export async function serveForever(options: ServeOptions, version: string): Promise<number> {
  const stopping = firstSignal();
  checkEmbeddedModel(options.model);
  const apiKeys = loadApiKeys(options);
  const { logger: log, isPretty, print } = await openLog(options);
  const manifest = loadManifest(options.model);
  chooseKernels(manifest, { kernels: options.kernels, device: options.device.kind });
  warnOfLengths(manifest, log);
  warnOfSampling(manifest, log);
  const engine = new EngineClient(engineOptions(options));
  const [name = manifest.name] = options.modelName;
  const bar = isPretty && process.stderr.isTTY ? new LoadProgress(engine, process.stderr) : null;
  const series = createSeries(name);
  const metrics = new RequestMetrics(series);
  metrics.observe(engine);
  const tracing = await startTracing(process.env, version, log);
  tracing?.observe(engine);
  logEngine(engine, log);
  logSlowSteps(engine, log);
  warnOfShortContext(engine, log, options.kvMemory);
  const ending = new AbortController();
  // The engine loads in its own process while the gateway prepares.
  const started = start(engine, options.model, manifest, ending.signal);
  started.catch(() => undefined);
  const closing: Closing = [];
  try {
    const context = gateway({ options, version, apiKeys, log, engine, series, metrics, tracing }, closing);
    const { app, facts } = await openPorts(context, closing);
    if (engine.ready === null) bar?.start();
    const readied = started.then(() => {
      if (isPretty) print(welcome(facts));
    });
    const signal = await Promise.race([stopping, readied.then(() => stopping)]);
    bar?.stop();
    log.info({ signal, running: metrics.live }, 'draining');
    if (await drain(app, context, options.drainTimeout * 1000)) log.info('drained');
    return 0;
  } finally {
    ending.abort();
    bar?.stop();
    await engine.close();
    await closeAll(closing, tracing);
  }
}
