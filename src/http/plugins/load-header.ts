/**
 * X-Sortie-Load and ORCA's load report on every response, for proxies that choose among servers. Absent while no wait
 * is predicted.
 */
import type { FastifyInstance } from 'fastify';
import type { HeadersOf, loadHeader } from '../../api/schemas/headers.js';
import type { Load } from '../../util/load-meter.js';
import type { HttpContext } from '../context.js';

declare module 'fastify' {
  interface FastifyInstance {
    /** For responses that bypass Fastify's hooks. */
    readonly loadHeaders: () => Partial<HeadersOf<typeof loadHeader>>;
  }
}

/**
 * ORCA's report in text. Envoy divides the rate by a utilization, and rounds the result to a whole weight. So the rate
 * counts tokens, and the backlog is in minutes: requests a second would round to 0 or 1.
 */
export function orcaReport(waitMs: number, { headroom, tokensPerS, expectedTokens, backlogS }: Load): string {
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

export function registerLoadHeader(app: FastifyInstance, { predictedWaitMs, load }: HttpContext): void {
  const loadHeaders = () => {
    const [waitMs, held] = [predictedWaitMs(), load()];
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
