/** Cross-origin calls from browsers: off unless the operator names origins. */
import cors from '@fastify/cors';
import type { FastifyInstance } from 'fastify';

const EXPOSED = [
  ...['x-request-id', 'x-exit-layer', 'x-predicted-ttft-ms', 'x-predicted-tpot-ms', 'retry-after', 'retry-after-ms'],
  ...['requests', 'tokens'].flatMap((what) =>
    ['limit', 'remaining', 'reset'].map((value) => `x-ratelimit-${value}-${what}`),
  ),
];

export async function registerCors(app: FastifyInstance, origins: readonly string[]): Promise<void> {
  if (origins.length === 0) return;
  await app.register(cors, {
    origin: origins.includes('*') ? '*' : [...origins],
    exposedHeaders: EXPOSED,
    // Its refusal of an OPTIONS that is no preflight would be plain text.
    strictPreflight: false,
  });
}
