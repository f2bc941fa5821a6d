/** Stops the HTTP server: new requests are rejected, and every accepted one is answered first. */
import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../api/errors.js';
import { monotonicMs } from '../../util/clock.js';
import type { GatewayContext, Step } from './context.js';

/** Interval at which idle connections are closed and running answers counted. */
const POLL_MS = 20;

/** Time that stopped answers have to send their error. */
const STOP_MS = 2000;

/**
 * A drain in which requests come ends this long after the last one: each load balancer has seen readiness drop then.
 */
const QUIET_MS = 1000;

/** Some proxies check nothing, and send requests to the end. So a drain without answers lasts this time at most. */
const LEAVE_MS = 5000;

/** Rejects new requests while the server drains. Running requests finish. */
export function rejectedWhenDraining(context: GatewayContext): Step {
  return ({ routeOptions: { config } }, reply) => {
    if (!context.draining) return;
    void reply.header('connection', 'close');
    if (config.endpoint === undefined || !('operation' in config.endpoint)) return;
    throw new ApiError('draining', 'The server is shutting down; retry with another server.');
  };
}

/**
 * Rejects new requests, waits until no answer runs, every byte went out and load balancers have left, and closes idle
 * connections meanwhile. The server still listens, so that new requests get a 503. The end of a listening socket resets
 * the connections that the process has not accepted, and a proxy can't repeat their requests. At the deadline, running
 * answers are cancelled. A connection whose client does not read its error is cut.
 * @returns false if the deadline came first
 */
export async function drain(app: FastifyInstance, context: GatewayContext, timeoutMs: number): Promise<boolean> {
  const { api } = context;
  const live = (): number => api?.metrics.live ?? 0;
  context.draining = true;
  const start = monotonicMs();
  const isIdle = (): boolean => live() + app.responses.size === 0;
  let lastArrival = -Infinity;
  app.server.on('request', () => (lastArrival = monotonicMs()));
  const clean = await until(app, isIdle, start + timeoutMs);
  if (clean) {
    const isQuiet = (): boolean => monotonicMs() - lastArrival >= QUIET_MS;
    await until(app, isQuiet, start + Math.min(timeoutMs, LEAVE_MS));
  } else {
    context.log.warn({ running: live() }, 'drain time-out, cancelling the running requests');
    api?.engine.cancelAll('cancelled');
    void api?.encoding.close();
  }
  await until(app, isIdle, monotonicMs() + STOP_MS);
  app.server.close();
  app.server.closeAllConnections();
  return clean;
}

/**
 * Closes idle connections until the condition holds. @returns false if the deadline, on the monotonic clock, came first
 */
async function until(app: FastifyInstance, condition: () => boolean, deadline: number): Promise<boolean> {
  do {
    // Connections that wait to be accepted have their turn meanwhile.
    app.server.closeIdleConnections();
    await delay(POLL_MS);
  } while (!condition() && monotonicMs() < deadline);
  return condition();
}
