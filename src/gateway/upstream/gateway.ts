/** Answers the requests to upstream models. Must not know: HTTP frameworks. */
import type { ApiContext, Limits } from '../api/context.js';
import type { NetMode } from '../../cli/options/upstream-sections.js';
import type { Series } from '../telemetry/series.js';
import { type NetObserver, UpstreamMetrics } from '../telemetry/upstream-metrics.js';
import type { OpenBody, PlainAnswer, UpstreamCall } from './call.js';
import type { NetShared } from './net.js';
import type { NoNet } from './local-request.js';
import { Breaker } from './breaker.js';
import { UpstreamConnection } from './connection.js';
import { Exchange, type SharedParts } from './exchange.js';
import { passThrough } from './pass-through.js';
import { EarlyStarts } from './early-start.js';
import { TimedAnswer } from './timed-answer.js';
import type { Upstream, UpstreamModel } from './upstream.js';
import { reserved, settingsOf, type UpstreamSettings, withCap } from './upstream-body.js';

/** The operator's options of nets. */
export interface NetOptions {
  /** Of requests that state none. */
  readonly mode: NetMode;
  readonly observed: NetObserver;
}

/** A model with the parts that serve it. */
interface Served extends SharedParts {
  readonly model: UpstreamModel;
  readonly metrics: UpstreamMetrics;
}

export class UpstreamGateway {
  readonly #served = new Map<string, Served>();

  /** @param nets absent: answers land, and have no net */
  constructor(
    models: readonly UpstreamModel[],
    series: Series,
    private readonly nets: NetOptions = { mode: 'land', observed: () => undefined },
  ) {
    for (const model of models) {
      const metrics = new UpstreamMetrics(series, model.name, model.upstream.name);
      this.#served.set(model.name, { ...this.#partsOf(model.upstream), model, metrics });
    }
  }

  /** The parts that all models of an upstream share. */
  #partsOf(upstream: Upstream): SharedParts {
    const known = [...this.#served.values()].find(({ model }) => model.upstream === upstream);
    if (known !== undefined) return known;
    const breaker = new Breaker((isOpen) => {
      for (const each of this.#served.values()) if (each.breaker === breaker) each.metrics.breaker(isOpen);
    });
    return { connection: new UpstreamConnection(upstream), breaker, early: new EarlyStarts() };
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
  async answer(
    limits: Pick<Limits, 'policy'>,
    asked: UpstreamCall,
    local: ApiContext | null,
  ): Promise<PlainAnswer | null> {
    const served = this.#served.get(asked.model);
    if (served === undefined) throw new Error(`no upstream model ${asked.model}`);
    const { model, metrics, connection } = served;
    const call = { ...asked, request: withCap(asked) };
    const { request } = call;
    const settings = settingsOf(limits, request, model.defaults, this.nets.mode);
    const release = reserved(call);
    request.addLogFields({ model: model.name });
    request.trace?.describe({ 'gen_ai.request.model': model.name, 'gen_ai.provider.name': 'upstream' });
    const exchange = new Exchange(connection, call, metrics, settings.budget);
    let hasFailed = true;
    try {
      const answer = await this.#answered(served, call, settings, exchange, local);
      hasFailed = false;
      return answer;
    } catch (thrown) {
      throw exchange.failed(thrown);
    } finally {
      release(exchange.paidTokens);
      exchange.end(hasFailed);
    }
  }

  #answered(
    served: Served,
    call: UpstreamCall,
    settings: UpstreamSettings,
    exchange: Exchange,
    local: ApiContext | null,
  ): Promise<PlainAnswer | null> {
    // Without a landing the answer may be late, as the local model's.
    const budget = settings.budget?.onMiss === 'continue' ? null : settings.budget;
    const isTimed = settings.net !== 'off' && (budget !== null || settings.first !== null);
    if (!isTimed && call.writing.errorBody === null) return passThrough(call, exchange);
    const untimed = { ...settings, budget: null, first: null, holdsSentences: false };
    const nets = isTimed ? this.#netsOf(local, call, settings) : null;
    return new TimedAnswer(served, call, isTimed ? { ...settings, budget } : untimed, exchange, nets).run();
  }

  /** Null: the answer has no net, which its header says. */
  #netsOf(context: ApiContext | null, call: UpstreamCall, { net, budget }: UpstreamSettings): NetShared | null {
    const none: NoNet | null = net !== 'answer' ? 'off' : budget?.onMiss === 'truncate' ? 'on_miss' : null;
    if (none === null && context !== null) return { context, observed: this.nets.observed };
    call.header('x-sortie-net', 'none');
    call.header('x-sortie-net-reason', none ?? 'no_model');
    return null;
  }

  async close(): Promise<void> {
    const connections = new Set([...this.#served.values()].map(({ connection }) => connection));
    await Promise.all([...connections].map((connection) => connection.close()));
  }
}
