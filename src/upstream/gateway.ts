/** Answers the requests to upstream models. Must not know: HTTP frameworks. */
import type { ApiContext } from '../api/context.js';
import { UpstreamMetrics } from '../telemetry/upstream-metrics.js';
import type { Series } from '../telemetry/series.js';
import type { OpenBody, PlainAnswer, UpstreamCall } from './call.js';
import { UpstreamConnection } from './connection.js';
import { passThrough } from './pass-through.js';
import { TimedAnswer } from './timed-answer.js';
import { ObservedTry } from './observed-try.js';
import type { Upstream } from './upstream.js';
import { promptTokens, reserved, settingsOf, type UpstreamSettings, withCap } from './upstream-body.js';
import { UsageMeter } from './usage-meter.js';

export class UpstreamGateway {
  readonly #connections: readonly UpstreamConnection[];

  readonly #metrics = new Map<Upstream, UpstreamMetrics>();

  constructor(upstreams: readonly Upstream[], series: Series) {
    this.#connections = upstreams.map((upstream) => new UpstreamConnection(upstream));
    for (const upstream of upstreams) this.#metrics.set(upstream, new UpstreamMetrics(series, upstream.name));
  }

  /** The names that callers use. */
  get names(): readonly string[] {
    return this.#connections.map(({ upstream }) => upstream.name);
  }

  /** The connection to the model that a body names; undefined for the local model. */
  connectionFor(body: unknown): UpstreamConnection | undefined {
    if (typeof body !== 'object' || body === null) return undefined;
    const { model } = body as OpenBody;
    return this.#connections.find(({ upstream }) => upstream.name === model);
  }

  /**
   * @returns the whole answer; null for one that went out as a stream
   * @throws ApiError, or ClientGone
   */
  async answer(context: ApiContext, connection: UpstreamConnection, asked: UpstreamCall): Promise<PlainAnswer | null> {
    const capped = { ...asked, request: withCap(asked.request) };
    const { request } = capped;
    const settings = settingsOf(context, request);
    const release = reserved(capped);
    const { upstream } = connection;
    const metrics = this.#metricsOf(upstream);
    const meter = new UsageMeter(promptTokens(request.body), metrics);
    request.addLogFields({ model: upstream.name });
    request.trace?.describe({ 'gen_ai.request.model': upstream.name, 'gen_ai.provider.name': 'upstream' });
    const observed = new ObservedTry(metrics, capped, upstream, settings.budget);
    let hasFailed = true;
    try {
      const answer = await this.#answer(connection, { ...capped, traceHeaders: observed.headers }, settings, meter);
      hasFailed = false;
      return answer;
    } finally {
      release(meter.paidTokens);
      request.addLogFields({ upstream: meter.report() });
      observed.end(meter, hasFailed);
    }
  }

  async #answer(connection: UpstreamConnection, call: UpstreamCall, settings: UpstreamSettings, meter: UsageMeter) {
    const { budget } = settings;
    // Without a landing the answer may be late, as the local model's.
    if (budget === null || budget.onMiss === 'continue') return passThrough(connection, call, settings, meter);
    return new TimedAnswer(connection, call, { ...settings, budget }, meter).run();
  }

  #metricsOf(upstream: Upstream): UpstreamMetrics {
    const metrics = this.#metrics.get(upstream);
    if (metrics === undefined) throw new Error(`no metrics of ${upstream.name}`);
    return metrics;
  }

  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()));
  }
}
