/**
 * Ends the HTTP server without losing what it accepted.
 *
 * Knows: sockets. Must not know: the process, the engine.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { monotonicMs } from '../clock.js';

/** How often idle connections are closed and the running answers counted, ms. */
const POLL_MS = 20;

/**
 * Waits until no answer runs and every byte went out, closing idle connections meanwhile; the server still listens, so
 * that new requests get a 503 rather than a refused connection.
 * @param running how many answers are being made
 * @returns false when the deadline came first: the rest is cut
 */
export async function drain(app: FastifyInstance, running: () => number, timeoutMs: number): Promise<boolean> {
  const deadline = monotonicMs() + timeoutMs;
  const openResponses = (): number => app.openResponses.size;
  while (running() + openResponses() > 0 && monotonicMs() < deadline) {
    app.server.closeIdleConnections();
    await delay(POLL_MS);
  }
  const clean = running() + openResponses() === 0;
  app.server.close();
  app.server.closeIdleConnections();
  app.server.closeAllConnections();
  return clean;
}
