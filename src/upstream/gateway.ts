/** Answers the requests to upstream models. Must not know: HTTP frameworks. */
import type { ApiContext } from '../api/context.js';
import type { OpenBody, PlainAnswer, UpstreamCall } from './call.js';
import { UpstreamConnection } from './connection.js';
import { passThrough } from './pass-through.js';
import { TimedAnswer } from './timed-answer.js';
import type { Upstream } from './upstream.js';
import { promptTokens, reserved, settingsOf, withCap } from './upstream-body.js';
import { UsageMeter } from './usage-meter.js';

export class UpstreamGateway {
  readonly #connections: readonly UpstreamConnection[];

  constructor(upstreams: readonly Upstream[]) {
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
    try {
      const { budget } = settings;
      // Without a landing the answer may be late, as the local model's.
      if (budget === null || budget.onMiss === 'continue') return await passThrough(connection, call, settings, meter);
      return await new TimedAnswer(connection, call, { ...settings, budget }, meter).run();
    } finally {
      release(meter.paidTokens);
      request.addLogFields({ upstream: meter.report() });
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()));
  }
}
