/** One request to an upstream, as allowances, reports, the log, metrics and traces see it. Must not know: landings. */
import type { CallTrace } from '../telemetry/trace.js';
import type { TryEnd, UpstreamMetrics } from '../telemetry/upstream-metrics.js';
import { monotonicMs } from '../../util/clock.js';
import { present } from '../../util/present.js';
import { type Ending, type Outcome, outcomeOf } from '../../protocol/outcome.js';
import type { Breaker } from './breaker.js';
import { charactersOf, type ChunkJson } from './chunk.js';
import type { OpenBody, UpstreamCall } from './call.js';
import type { Chunk } from './chunk.js';
import { Unreachable, type UpstreamConnection, type UpstreamResponse } from './connection.js';
import type { EarlyStarts } from './early-start.js';
import { type Counts, countsOf, type LandingTrigger } from './landed.js';
import { HeldBytes } from './held-bytes.js';
import { budgetHeader, estimatedTokens, forwardedBody, promptTokens, type UpstreamSettings } from './upstream-body.js';

/** Statuses that say that the server has no capacity. */
const REFUSED = [429, 503];

/** Stands in place of a key. */
const HIDDEN = '***';

/** The parts that all models and answers of one upstream share. */
export interface SharedParts {
  readonly connection: UpstreamConnection;
  readonly breaker: Breaker;
  readonly early: EarlyStarts;
}

/** The end of an answer that its upstream did not end. */
interface Broken {
  readonly by: LandingTrigger;
  readonly ending: Ending;
}

export class Exchange {
  readonly #startedAt = monotonicMs();
  readonly #trace: CallTrace | null;
  /** Of the response; null without one. */
  status: number | null = null;
  firstTextAt: number | null = null;
  #broken: Broken | null = null;
  #characters = 0;
  #stated: Counts | null = null;
  #localTokens = 0;
  readonly held: HeldBytes;

  constructor(
    private readonly connection: UpstreamConnection,
    private readonly call: UpstreamCall,
    private readonly metrics: UpstreamMetrics,
    private readonly budget: UpstreamSettings['budget'],
  ) {
    const { upstream } = connection;
    const operation = call.path === '/completions' ? 'text_completion' : 'chat';
    this.#trace =
      call.request.trace?.call(`${operation} ${upstream.model}`, {
        'gen_ai.operation.name': operation,
        'gen_ai.provider.name': 'upstream',
        'gen_ai.request.model': upstream.model,
        'server.address': upstream.url.hostname,
        'server.port': Number(upstream.url.port) || (upstream.url.protocol === 'https:' ? 443 : 80),
        'sortie.budget_ms': budget?.totalMs,
      }) ?? null;
    const { arrivedAt, caller } = call.request;
    this.held = new HeldBytes(caller.tenant);
    // An answer that goes on past its budget has no deadline.
    if (budget === null || budget.onMiss === 'continue') return;
    call.onSent(() => {
      metrics.lastByte(monotonicMs() - arrivedAt - budget.totalMs);
    });
  }

  /**
   * Asks the upstream.
   * @param endsAt the instant at which the budget ends; null without one
   * @param changes of the body
   * @param breaker hears of the response, or of its absence
   * @throws ApiError upstream_failed without a response; the reason of the signal once it aborts
   */
  async ask(
    endsAt: number | null,
    signal: AbortSignal,
    changes: OpenBody = {},
    breaker: Breaker | null = null,
  ): Promise<UpstreamResponse> {
    const { path, request } = this.call;
    const { upstream } = this.connection;
    const { tenant } = request.caller;
    const asked = this.connection.post({
      path,
      body: forwardedBody(request, upstream, changes),
      requestId: request.id,
      headers: { ...this.#trace?.headers, ...(endsAt !== null && budgetHeader(upstream, endsAt - monotonicMs())) },
      signal,
    });
    const response = await asked.catch((error: unknown) => {
      if (error instanceof Unreachable) breaker?.unreachable(monotonicMs());
      else if (!signal.aborted) breaker?.failed(tenant, monotonicMs());
      throw error;
    });
    this.status = response.status;
    if (response.status >= 500) breaker?.failed(tenant, monotonicMs());
    else breaker?.succeeded(tenant);
    return response;
  }

  /** Counts a chunk that waits to be sent. */
  hold(chunk: Chunk): void {
    this.held.add(chunk.bytes);
    this.count(chunk);
  }

  count({ json: { usage }, text, characters }: Chunk): void {
    this.#characters += characters;
    if (text !== '') this.text();
    this.#readCounts(usage);
  }

  /** Content of the answer has come. Only content is a first token: thoughts and roles are none. */
  text(): void {
    if (this.firstTextAt !== null) return;
    this.firstTextAt = monotonicMs();
    this.metrics.firstContent(this.firstTextAt - this.#startedAt);
  }

  /** The upstream did not end its answer. @param ending as the client sees it; absent: in the text so far */
  broke(by: LandingTrigger, ending: Ending = { end: 'cut', isEmpty: this.firstTextAt === null }): void {
    this.#broken ??= { by, ending };
  }

  /** Counts what an answer or a chunk has, and reads the upstream's own counts in it. */
  read({ usage, choices }: Pick<ChunkJson, 'usage' | 'choices'>): void {
    this.#characters += charactersOf(choices);
    this.#readCounts(usage);
  }

  #readCounts(usage: ChunkJson['usage']): void {
    if (typeof usage?.prompt_tokens !== 'number' || typeof usage.completion_tokens !== 'number') return;
    this.#stated = countsOf(usage.prompt_tokens, usage.completion_tokens);
  }

  /** The counts of the upstream, else estimates by the length of texts, thoughts and calls. */
  get usage(): Counts {
    return this.#stated ?? countsOf(promptTokens(this.call.request.body), estimatedTokens(this.#characters));
  }

  /** The exchange in the report and in the log. */
  report() {
    const ttft = this.#ttftMs;
    const ttft_ms = ttft === null ? null : Math.round(ttft);
    return { ...present({ status: this.status, ttft_ms }), usage: this.usage, estimated: this.#stated === null };
  }

  /** The local model answered in place of the upstream. @param tokens of prompt and answer */
  standIn(tokens: number): void {
    this.#localTokens = tokens;
  }

  /** Tokens that the key pays: none without an answer. */
  get paidTokens(): number {
    return (this.status === 200 ? this.usage.total_tokens : 0) + this.#localTokens;
  }

  /** An error of the upstream, which may repeat the headers of its request, without the key. */
  withoutKey(text: string): string {
    const { key } = this.connection.upstream;
    return key === null ? text : text.replaceAll(key, HIDDEN).replaceAll(key.replaceAll('/', '\\/'), HIDDEN);
  }

  /** @param hasFailed whether the gateway throws */
  end(hasFailed: boolean): void {
    const { status, usage } = this;
    this.held.close();
    const end = this.#endOf(hasFailed);
    const outcome = this.#outcome(end);
    this.metrics.ended({ status, end, outcome });
    const ttft = this.#ttftMs;
    const attributes = {
      'http.response.status_code': status ?? undefined,
      'gen_ai.usage.input_tokens': usage.prompt_tokens,
      'gen_ai.usage.output_tokens': usage.completion_tokens,
      'gen_ai.response.time_to_first_chunk': ttft === null ? undefined : ttft / 1000,
      'sortie.upstream.end': end,
      'sortie.outcome': outcome ?? undefined,
    };
    const isFault = end === 'failed' || end === 'rejected';
    this.#trace?.end(attributes, isFault ? String(status === null || status < 400 ? 'upstream_failed' : status) : null);
  }

  /** From the request to the first content, ms; null without content. */
  get #ttftMs(): number | null {
    return this.firstTextAt === null ? null : this.firstTextAt - this.#startedAt;
  }

  #endOf(hasFailed: boolean): TryEnd {
    const { status } = this;
    if (this.call.request.signal.aborted) return 'cancelled';
    if (this.#broken !== null) return this.#broken.by === 'deadline' ? 'deadline' : 'failed';
    if (status === null || hasFailed || status === 429 || status >= 500) return 'failed';
    return status >= 400 ? 'rejected' : 'whole';
  }

  #outcome(end: TryEnd): Outcome | null {
    if (end === 'cancelled' || end === 'rejected') return null;
    if (this.#broken === null && this.status !== null && REFUSED.includes(this.status)) return 'refused';
    const ending = this.#broken?.ending ?? { end: 'whole', isEmpty: end === 'failed' };
    const unlimited = { ttftMs: null, tpotMs: null };
    const actual = { ...unlimited, totalMs: monotonicMs() - this.call.request.arrivedAt };
    return outcomeOf(ending, actual, this.budget === null ? null : { ...unlimited, totalMs: this.budget.totalMs });
  }
}
