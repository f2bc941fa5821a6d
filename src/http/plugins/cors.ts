/** Cross-origin calls from browsers: off unless the operator names origins. */
import cors from '@fastify/cors';
import type { FastifyInstance } from 'fastify';
import {
  loadHeader,
  planHeaders,
  requestIdHeader,
  requestLimitHeaders,
  retryHeaders,
  tokenLimitHeaders,
  warningHeader,
} from '../../api/schemas/headers.js';

const EXPOSED = Object.keys({
  ...requestIdHeader,
  ...loadHeader,
  ...planHeaders,
  ...retryHeaders,
  ...requestLimitHeaders,
  ...tokenLimitHeaders,
  ...warningHeader,
});

export async function registerCors(app: FastifyInstance, origins: readonly string[]): Promise<void> {
  if (origins.length === 0) return;
  await app.register(cors, {
    origin: origins.includes('*') ? '*' : [...origins],
    exposedHeaders: EXPOSED,
    // With this option on, the plugin rejects a plain OPTIONS with a text body instead of JSON.
    strictPreflight: false,
  });
}
