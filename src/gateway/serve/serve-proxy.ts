/** `sortie serve --no-local`: the gateway to upstream models, without an engine. */
import { totalBudget } from '../api/params/budget.js';
import { OptionError, type ServeOptions } from '../../cli/options/config.js';
import { createProxyApp, createProxyOpsApp, type ProxyContext } from '../http/proxy-app.js';
import { loadApiKeys } from '../http/keys.js';
import { drain } from '../http/shutdown.js';
import { type Closing, closeAll, firstSignal, listenOn, openLog, reloadKeys } from './serve-parts.js';
import { watchLoopLag } from '../telemetry/loop-lag.js';
import { createSeries } from '../telemetry/series.js';
import { startTracing } from '../telemetry/tracing.js';
import { upstreamGateway } from './upstream-gateway.js';

/** The label `model_name` of metrics, where `--model-name` gives none. */
const MODEL_NAME = 'upstreams';

/**
 * Serves until SIGTERM or SIGINT.
 * @returns the exit code: 0 after a drain
 * @throws OptionError, or Error for an unavailable port
 */
export async function serveProxy(options: ServeOptions, version: string): Promise<number> {
  const stopping = firstSignal();
  const apiKeys = loadApiKeys(options);
  const { logger: log } = await openLog(options);
  const [modelName = MODEL_NAME] = options.modelName;
  const series = createSeries(modelName);
  // Without an engine its absence is no fault.
  series.registry.removeSingleMetric('sortie_engine_up');
  const upstreams = upstreamGateway(options, [], series);
  if (upstreams === undefined) throw new OptionError('--no-local needs --upstream, or upstreams in --config');
  const tracing = await startTracing(process.env, version, log);
  const closing: Closing = [];
  try {
    closing.push({ close: watchLoopLag(series) });
    const context: ProxyContext = {
      options,
      version,
      apiKeys,
      log,
      series,
      tracing,
      upstreams,
      draining: false,
    };
    if (options.apiKeyFile !== null) closing.push({ close: reloadKeys(context, () => undefined) });
    const app = await openPorts(context, closing);
    const signal = await stopping;
    log.info({ signal, running: app.inFlightResponses.size }, 'draining');
    if (await drain(app, context, options.drainTimeout * 1000)) log.info('drained');
    return 0;
  } finally {
    await closeAll(closing, tracing);
  }
}

async function openPorts(context: ProxyContext, closing: Closing) {
  const { options, upstreams } = context;
  const { onMiss, defaultBudget } = options;
  const policy = { defaultBudget: totalBudget(defaultBudget), onMiss, minExit: null, maxExit: null };
  const app = await createProxyApp(context, { policy });
  closing.push(app);
  const ops = options.opsPort === null ? null : await createProxyOpsApp(context);
  if (ops !== null) closing.push(ops);
  await listenOn(context, app, ops, { model: upstreams.names.join(', '), then: 'for upstream models only' });
  return app;
}
