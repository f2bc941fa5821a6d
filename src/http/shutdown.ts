/** Stops the HTTP server after it has answered every accepted request. */
import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { monotonicMs } from '../util/clock.js';

/** Interval at which idle connections are closed and running answers counted. */
const POLL_MS = 20;

/** Time that stopped answers have to send their error. */
const STOP_MS = 2000;

/** The answers that run. */
export interface Running {
  readonly live: number;
  /** Ends each running answer with an error, shortly after. */
  stop(): void;
}

/**
 * Waits until no answer runs and every byte went out, and closes idle connections meanwhile. The server still listens,
 * so that new requests get a 503 and not a refused connection. At the deadline, running answers are stopped. A
 * connection whose client does not read its error is cut.
 * @returns false if the deadline came first
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
