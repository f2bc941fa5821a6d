/** Cross-origin calls from browsers: off unless the operator names origins. */
import cors from '@fastify/cors';
import type { FastifyInstance } from 'fastify';
import { browserHeaders } from '../../api/schemas/headers.js';

export async function registerCors(app: FastifyInstance, origins: readonly string[]): Promise<void> {
  if (origins.length === 0) return;
  await app.register(cors, {
    origin: origins.includes('*') ? '*' : [...origins],
    exposedHeaders: Object.keys(browserHeaders),
    // With this option on, the plugin rejects a plain OPTIONS with a text body instead of JSON.
    strictPreflight: false,
  });
}
