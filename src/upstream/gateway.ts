/** Answers the requests to upstream models. Must not know: HTTP frameworks. */
import type { Limits } from '../api/context.js';
import type { Series } from '../telemetry/series.js';
import { UpstreamMetrics } from '../telemetry/upstream-metrics.js';
import type { OpenBody, PlainAnswer, UpstreamCall } from './call.js';
import { UpstreamConnection } from './connection.js';
import { ObservedTry } from './observed-try.js';
import { passThrough } from './pass-through.js';
import { TimedAnswer } from './timed-answer.js';
import type { Upstream, UpstreamModel } from './upstream.js';
import { promptTokens, reserved, settingsOf, type UpstreamSettings, withCap } from './upstream-body.js';
import { UsageMeter } from './usage-meter.js';

/** A model with the parts that serve it. Models of one upstream share its connections. */
interface Served {
  readonly model: UpstreamModel;
  readonly connection: UpstreamConnection;
  readonly metrics: UpstreamMetrics;
}

export class UpstreamGateway {
  readonly #served: ReadonlyMap<string, Served>;

  constructor(models: readonly UpstreamModel[], series: Series) {
    const connections = new Map<Upstream, UpstreamConnection>();
    for (const { upstream } of models) {
      if (!connections.has(upstream)) connections.set(upstream, new UpstreamConnection(upstream));
    }
    const served = models.flatMap((model) => {
      const connection = connections.get(model.upstream);
      const metrics = new UpstreamMetrics(series, model.name);
      return connection === undefined ? [] : [[model.name, { model, connection, metrics }] as const];
    });
    this.#served = new Map(served);
  }

  /** The names that callers use. */
  get names(): readonly string[] {
    return [...this.#served.keys()];
  }

  /** The model that a body names; null for another one. */
  modelOf(body: unknown): string | null {
    if (typeof body !== 'object' || body === null) return null;
    const { model } = body as OpenBody;
    return typeof model === 'string' && this.#served.has(model) ? model : null;
  }

  /**
   * @param limits of all clients
   * @param asked its model is one of `names`
   * @returns the whole answer; null for one that went out as a stream
   * @throws ApiError, or ClientGone
   */
  async answer(limits: Pick<Limits, 'policy'>, asked: UpstreamCall): Promise<PlainAnswer | null> {
    const served = this.#served.get(asked.model);
    if (served === undefined) throw new Error(`no upstream model ${asked.model}`);
    const { model, metrics } = served;
    const capped = { ...asked, request: withCap(asked.request) };
    const { request } = capped;
    const settings = settingsOf(limits, request, model.defaults);
    const release = reserved(capped);
    const meter = new UsageMeter(promptTokens(request.body), metrics);
    request.addLogFields({ model: model.name });
    request.trace?.describe({ 'gen_ai.request.model': model.name, 'gen_ai.provider.name': 'upstream' });
    const observed = new ObservedTry(metrics, capped, model.upstream, settings.budget);
    let hasFailed = true;
    try {
      const answer = await answered(served, { ...capped, traceHeaders: observed.headers }, settings, meter);
      hasFailed = false;
      return answer;
    } finally {
      release(meter.paidTokens);
      request.addLogFields({ upstream: meter.report() });
      observed.end(meter, hasFailed);
    }
  }

  async close(): Promise<void> {
    const connections = new Set([...this.#served.values()].map(({ connection }) => connection));
    await Promise.all([...connections].map((connection) => connection.close()));
  }
}

async function answered(
  { connection }: Served,
  call: UpstreamCall,
  settings: UpstreamSettings,
  meter: UsageMeter,
): Promise<PlainAnswer | null> {
  const { budget } = settings;
  // Without a landing the answer may be late, as the local model's.
  if (budget === null || budget.onMiss === 'continue') return passThrough(connection, call, settings, meter);
  return new TimedAnswer(connection, call, { ...settings, budget }, meter).run();
}
