/**
 * The OpenAPI document as text, reproducible byte by byte. `npm run openapi` writes the committed file; CI compares it.
 */
import { pino } from 'pino';
import type { Engine } from '../engine-client/engine.js';
import { openPolicy } from '../api/context.js';
import type { ServedModel } from '../api/served-model.js';
import { EncodingThread } from '../text/encoding/encoding-thread.js';
import { RequestMetrics } from '../telemetry/requests.js';
import { createSeries } from '../telemetry/series.js';
import { resolveOptions } from '../../cli/options/config.js';
import { ScoreSum } from '../api/params/score-limit.js';
import { RefusalPace } from '../api/generation/refusal-pace.js';
import { createApp } from './app.js';

export async function openapiDocument(version: string): Promise<string> {
  const options = resolveOptions({}, {});
  const series = createSeries('none');
  const app = await createApp({
    // The app serves no request; it only describes its routes.
    api: {
      engine: {} as Engine,
      model: {} as ServedModel,
      encoding: new EncodingThread(''),
      limits: { ...options, policy: openPolicy },
      metrics: new RequestMetrics(series),
      scores: new ScoreSum(),
      refusals: new RefusalPace(),
    },
    series,
    options,
    apiKeys: [],
    tracing: null,
    version,
    policy: openPolicy,
    log: pino({ level: 'silent' }),
    draining: false,
  });
  const text = `${JSON.stringify(app.swagger(), null, 2)}\n`;
  await app.close();
  return text;
}
