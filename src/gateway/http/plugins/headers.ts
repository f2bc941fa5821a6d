/** Headers of every response: the request id, protections for browsers, the load; and warnings. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { HeadersOf, loadHeader, requestIdHeader, warningHeader } from '../../api/schemas/headers.js';
import type { Load } from '../../../util/load-meter.js';
import { dialectOf } from '../api-dialect.js';

declare module 'fastify' {
  interface FastifyInstance {
    /** For responses that bypass Fastify's hooks. */
    readonly loadHeaders: () => Partial<HeadersOf<typeof loadHeader>>;
  }
}

/** The client's X-Request-Id if it is one printable word, else a new id. */
export function requestId(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID();
}

/** Headers of every response. */
export function commonHeaders({
  id,
}: Pick<FastifyRequest, 'id'>): HeadersOf<typeof requestIdHeader> & Record<string, string> {
  return {
    'x-request-id': id,
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
  };
}

export function registerHeaders(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    const { idHeader } = dialectOf(request);
    void reply.headers({ ...commonHeaders(request), ...(idHeader !== null && { [idHeader]: request.id }) });
  });
}

const WARNING: keyof HeadersOf<typeof warningHeader> = 'x-sortie-warning';

/**
 * Adds a sentence to the header that tells a client which of its fields have no effect. The status line must not be
 * sent.
 */
export function warn(reply: FastifyReply, text: string): void {
  const said = reply.getHeader(WARNING);
  void reply.header(WARNING, said === undefined ? text : `${String(said)} ${text}`);
}

/**
 * ORCA's report in text. Envoy divides the rate by a utilization, and rounds the result to a whole weight. So the rate
 * counts tokens, and the backlog is in minutes: requests a second would round to 0 or 1.
 */
function orcaReport(waitMs: number, { headroom, tokensPerS, expectedTokens, backlogS }: Load): string {
  const metrics = {
    cpu_utilization: (1 - headroom).toFixed(3),
    rps_fractional: tokensPerS.toFixed(2),
    'named_metrics.wait_ms': waitMs.toFixed(0),
    'named_metrics.headroom': headroom.toFixed(3),
    'named_metrics.expected_tokens': expectedTokens.toFixed(0),
    // Without a backlog Envoy would take cpu_utilization for it, and weights of two units would differ by thousands.
    'named_metrics.backlog_minutes': Math.max(1e-6, backlogS / 60).toFixed(6),
  };
  const pairs = Object.entries(metrics).map(([name, value]) => `${name}=${value}`);
  return `TEXT ${pairs.join(',')}`;
}

/** The measured load; null without the header or a ready engine. */
export interface LoadReporter {
  /** The predicted wait of a new request for X-Sortie-Load, ms. */
  readonly predictedWaitMs: () => number | null;
  readonly load: () => Load | null;
}

/**
 * X-Sortie-Load and ORCA's load report on every response, for proxies that choose among servers. Absent while no wait
 * is predicted.
 */
export function registerLoadHeader(app: FastifyInstance, { predictedWaitMs, load }: LoadReporter): void {
  const loadHeaders = () => {
    const waitMs = predictedWaitMs();
    const held = load();
    return {
      ...(waitMs !== null && { 'x-sortie-load': waitMs.toFixed(0) }),
      ...(waitMs !== null && held !== null && { 'endpoint-load-metrics': orcaReport(waitMs, held) }),
    };
  };
  app.decorate('loadHeaders', loadHeaders);
  app.addHook('onSend', async (_request, reply) => {
    void reply.headers(loadHeaders());
  });
}
