/** Answers the requests to upstream models. Must not know: HTTP frameworks. */
import type { ApiContext } from '../api/context.js';
import { Breaker } from './breaker.js';
import type { OpenBody, PlainAnswer, UpstreamCall } from './call.js';
import { UpstreamConnection } from './connection.js';
import type { NetObserver, NetShared } from './net.js';
import { NetAccount } from './net-account.js';
import { NetMargin } from './net-margin.js';
import type { NetMode, NoNet } from './net-policy.js';
import { passThrough } from './pass-through.js';
import { TimedAnswer } from './timed-answer.js';
import type { Upstream } from './upstream.js';
import { promptTokens, reserved, settingsOf, type UpstreamSettings, withCap } from './upstream-body.js';
import { UsageMeter } from './usage-meter.js';

/** The operator's options of nets. */
export interface NetOptions {
  /** Of requests that state none. */
  readonly mode: NetMode;
  /** Least share of full depth's right answers of a net's exit; null: as of all requests. */
  readonly minRight: number | null;
  readonly observer: NetObserver | null;
}

const NO_NETS: NetOptions = { mode: 'land', minRight: null, observer: null };

export class UpstreamGateway {
  readonly #connections: readonly UpstreamConnection[];
  readonly #breakers = new WeakMap<UpstreamConnection, Breaker>();
  // All nets share the one engine.
  readonly #account = new NetAccount();
  readonly #margin = new NetMargin();

  /** @param nets absent: answers land, and have no net */
  constructor(
    upstreams: readonly Upstream[],
    private readonly nets: NetOptions = NO_NETS,
  ) {
    this.#connections = upstreams.map((upstream) => new UpstreamConnection(upstream));
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
    const call = { ...asked, request: withCap(asked.request) };
    const { request } = call;
    const settings = settingsOf(context, request);
    const release = reserved(call);
    const meter = new UsageMeter(promptTokens(request.body));
    const { name } = connection.upstream;
    request.addLogFields({ model: name });
    request.trace?.describe({ 'gen_ai.request.model': name, 'gen_ai.provider.name': 'upstream' });
    let timed: TimedAnswer | null = null;
    try {
      const { budget } = settings;
      const mode = settings.net ?? this.nets.mode;
      // Without a landing the answer may be late, as the local model's.
      if (budget === null || budget.onMiss === 'continue' || mode === 'off') {
        return await passThrough(connection, call, settings, meter);
      }
      const nets = this.#netsOf(context, call, mode, budget);
      timed = new TimedAnswer(connection, call, { ...settings, budget }, meter, {
        nets,
        breaker: this.#breaker(connection),
      });
      return await timed.run();
    } finally {
      release(meter.paidTokens + (timed?.netTokens ?? 0));
      request.addLogFields({ upstream: meter.report() });
    }
  }

  /** Null: the answer has no net, which its header says. */
  #netsOf(
    context: ApiContext,
    call: UpstreamCall,
    mode: NetMode,
    { onMiss }: NonNullable<UpstreamSettings['budget']>,
  ): NetShared | null {
    const none: NoNet | null = mode !== 'answer' ? 'off' : onMiss === 'truncate' ? 'on_miss' : null;
    if (none === null) {
      const { minRight, observer } = this.nets;
      return { context, account: this.#account, margin: this.#margin, minRight, observer };
    }
    call.header('x-sortie-net', 'none');
    call.header('x-sortie-net-reason', none);
    return null;
  }

  #breaker(connection: UpstreamConnection): Breaker {
    const breaker = this.#breakers.get(connection) ?? new Breaker();
    this.#breakers.set(connection, breaker);
    return breaker;
  }

  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()));
  }
}
