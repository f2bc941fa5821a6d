/** Answers the requests to upstream models. Must not know: HTTP frameworks. */
import type { ApiContext, Limits } from '../api/context.js';
import type { NetMode } from '../../cli/options/upstream-sections.js';
import type { Series } from '../telemetry/series.js';
import { UpstreamMetrics } from '../telemetry/upstream-metrics.js';
import type { OpenBody, PlainAnswer, UpstreamCall } from './call.js';
import type { NetObserver, NetShared } from './net-parts.js';
import { NetAccount } from './net-account.js';
import { IdlePrefill } from './idle-prefill.js';
import { NetMargin } from './net-margin.js';
import type { NoNet } from './net-policy.js';
import { ObservedTry } from './observed-try.js';
import { passThrough } from './pass-through.js';
import { type SharedParts, sharedParts } from './shared-parts.js';
import { TimedAnswer } from './timed-answer.js';
import type { UpstreamModel } from './upstream.js';
import { promptTokens, reserved, settingsOf, type UpstreamSettings, withCap } from './upstream-body.js';
import { UsageMeter } from './usage-meter.js';

/** The operator's options of nets. */
export interface NetOptions {
  /** Of requests that state none. */
  readonly mode: NetMode;
  readonly observer: NetObserver | null;
}

const NO_NETS: NetOptions = { mode: 'land', observer: null };

/** A model with the parts that serve it. */
interface Served extends SharedParts {
  readonly model: UpstreamModel;
  readonly metrics: UpstreamMetrics;
}

export class UpstreamGateway {
  readonly #served: ReadonlyMap<string, Served>;

  // All nets share the one engine.
  readonly #account = new NetAccount();
  readonly #margin = new NetMargin();
  readonly #idle = new IdlePrefill();

  /** @param nets absent: answers land, and have no net */
  constructor(
    models: readonly UpstreamModel[],
    series: Series,
    private readonly nets: NetOptions = NO_NETS,
  ) {
    const upstreams = new Set(models.map(({ upstream }) => upstream));
    const metrics = new Map(models.map((model) => [model, new UpstreamMetrics(series, model.name)]));
    const parts = new Map(
      [...upstreams].map((upstream) => {
        const own = models.filter((model) => model.upstream === upstream);
        const breakerChanged = (isOpen: boolean): void => {
          for (const model of own) metrics.get(model)?.breaker(isOpen);
        };
        return [upstream, sharedParts(upstream, breakerChanged)];
      }),
    );
    const served = [...metrics].flatMap(([model, ofModel]) => {
      const shared = parts.get(model.upstream);
      return shared === undefined ? [] : [[model.name, { model, ...shared, metrics: ofModel }] as const];
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
  async answer(
    limits: Pick<Limits, 'policy'>,
    asked: UpstreamCall,
    local: ApiContext | null,
  ): Promise<PlainAnswer | null> {
    const served = this.#served.get(asked.model);
    if (served === undefined) throw new Error(`no upstream model ${asked.model}`);
    const { model, metrics } = served;
    const capped = { ...asked, request: withCap(asked.request) };
    const { request } = capped;
    const stated = settingsOf(limits, request, model.defaults);
    const settings = { ...stated, mode: stated.net ?? this.nets.mode };
    const release = reserved(capped);
    const meter = new UsageMeter(promptTokens(request.body), metrics);
    request.addLogFields({ model: model.name });
    request.trace?.describe({ 'gen_ai.request.model': model.name, 'gen_ai.provider.name': 'upstream' });
    const observed = new ObservedTry(metrics, capped, model.upstream, settings.budget);
    let hasFailed = true;
    try {
      const call = { ...capped, traceHeaders: observed.headers };
      const answer = await answered(served, call, settings, meter, () => this.#netsOf(local, call, settings));
      hasFailed = false;
      return answer;
    } finally {
      release(meter.paidTokens);
      request.addLogFields({ upstream: meter.report() });
      observed.end(meter, hasFailed);
    }
  }

  /** Null: the answer has no net, which its header says. */
  #netsOf(
    context: ApiContext | null,
    call: UpstreamCall,
    { mode, budget }: UpstreamSettings & { readonly mode: NetMode },
  ): NetShared | null {
    const { observer } = this.nets;
    const none: NoNet | null = mode !== 'answer' ? 'off' : budget?.onMiss === 'truncate' ? 'on_miss' : null;
    if (none === null && context !== null) {
      return { context, account: this.#account, margin: this.#margin, idle: this.#idle, observer };
    }
    call.header('x-sortie-net', 'none');
    call.header('x-sortie-net-reason', none ?? 'no_model');
    return null;
  }

  async close(): Promise<void> {
    const connections = new Set([...this.#served.values()].map(({ connection }) => connection));
    await Promise.all([...connections].map((connection) => connection.close()));
  }
}

/** @param nets asks for the net of a timed answer; null: it has none */
async function answered(
  served: Served,
  call: UpstreamCall,
  settings: UpstreamSettings & { readonly mode: NetMode },
  meter: UsageMeter,
  nets: () => NetShared | null,
): Promise<PlainAnswer | null> {
  const { budget, mode } = settings;
  // Without a landing the answer may be late, as the local model's.
  if (budget === null || budget.onMiss === 'continue' || mode === 'off') {
    return passThrough(served.connection, call, settings, meter);
  }
  return new TimedAnswer(served, call, { ...settings, budget }, meter, nets()).run();
}
