/** Makes the gateway to upstream models of the options, the environment and files. */
import { readFileSync } from 'node:fs';
import { OptionError, type ServeOptions } from '../../cli/options/config.js';
import { netMetrics } from '../telemetry/upstream-metrics.js';
import type { Series } from '../telemetry/series.js';
import { type NetOptions, UpstreamGateway } from '../upstream/gateway.js';
import { upstreamModels } from '../upstream/upstream.js';

/**
 * @param localNames of the local model; none without one
 * @returns undefined without an upstream
 * @throws OptionError
 */
export function upstreamGateway(
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
  return models.length === 0 ? undefined : new UpstreamGateway(models, series, netOptions(options, series));
}

/** The local model, if there is one, is the net of all upstreams. */
function netOptions({ net: mode }: ServeOptions, series: Series): NetOptions {
  return { mode, observer: netMetrics(series) };
}
