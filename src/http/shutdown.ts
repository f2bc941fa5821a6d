/**
 * Ends the HTTP server without losing what it accepted.
 *
 * Knows: sockets. Must not know: the process, the engine.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { monotonicMs } from '../util/clock.js';

/** How often idle connections are closed and the running answers counted, ms. */
const POLL_MS = 20;

/** How long answers that are stopped at the deadline may take to say so, ms. */
const STOP_MS = 2000;

/** The answers that are being made. */
export interface Running {
  readonly live: number;
  /** Each ends with an error, shortly. */
  stop(): void;
}

/**
 * Waits until no answer runs and every byte went out, closing idle connections meanwhile; the server still listens, so
 * that new requests get a 503 rather than a refused connection. Answers that still run at the deadline are stopped;
 * connections whose client does not take even that are cut.
 * @returns false when the deadline came first
 */
export async function drain(app: FastifyInstance, running: Running, timeoutMs: number): Promise<boolean> {
  const clean = await quiet(app, running, timeoutMs);
  if (!clean) {
    running.stop();
    await quiet(app, running, STOP_MS);
  }
  app.server.close();
  app.server.closeAllConnections();
  return clean;
}

/** @returns whether no answer ran and no response was open within that time */
async function quiet(app: FastifyInstance, running: Running, timeoutMs: number): Promise<boolean> {
  const deadline = monotonicMs() + timeoutMs;
  const isQuiet = (): boolean => running.live + app.inFlightResponses.size === 0;
  while (!isQuiet() && monotonicMs() < deadline) {
    app.server.closeIdleConnections();
    await delay(POLL_MS);
  }
  return isQuiet();
}
