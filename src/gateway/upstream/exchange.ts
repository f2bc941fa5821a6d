/** One request to an upstream, and the record of its answer. Must not know: landings. */
import { ApiError, ClientGone } from '../api/errors.js';
import type { AnswerRecord } from '../telemetry/answer-record.js';
import type { CallTrace } from '../telemetry/trace.js';
import type { TryEnd, UpstreamMetrics } from '../telemetry/upstream-metrics.js';
import { monotonicMs } from '../../util/clock.js';
import { present } from '../../util/present.js';
import { type Ending, outcomeOf } from '../../protocol/outcome.js';
import type { Breaker } from './breaker.js';
import { charactersOf, type ChunkJson, finishReasonOf } from './chunk.js';
import type { OpenBody, UpstreamCall } from './call.js';
import type { Chunk } from './chunk.js';
import { Unreachable, type UpstreamConnection, type UpstreamResponse } from './connection.js';
import type { EarlyStarts } from './early-start.js';
import { type Counts, countsOf, type LandingTrigger } from './landed.js';
import type { FirstDue } from './deadline.js';
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

/** The parts of a record that are not the upstream's own. */
type Told = Omit<AnswerRecord, 'usage'> & { readonly usage: Counts };

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
  #finishReason: string | null = null;
  #localTokens = 0;
  #record: AnswerRecord | null = null;
  /** The part of the answer that its client is to have first; null: none. */
  first: FirstDue | null = null;
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

  count({ json: { usage }, pieces, text, characters }: Chunk): void {
    for (const piece of pieces) if ('finishReason' in piece) this.#finishReason = piece.finishReason;
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
    this.#finishReason = finishReasonOf(choices) ?? this.#finishReason;
    this.#readCounts(usage);
  }

  #readCounts(usage: ChunkJson['usage']): void {
    if (typeof usage?.prompt_tokens !== 'number' || typeof usage.completion_tokens !== 'number') return;
    this.#stated = countsOf(usage.prompt_tokens, usage.completion_tokens);
  }

  /** The counts of the upstream, else estimates by the length of texts, thoughts and calls. */
  get usage(): Counts {
    return this.#stated ?? countsOf(promptTokens(this.call.request.body), estimatedTokens(this.#characters), true);
  }

  /**
   * The answer as its client has it, made once at its end.
   * @param told the facts of an answer that has other text than the upstream's, or another end
   * @param hasFailed whether the client gets an error
   */
  record(told: Partial<Told> = {}, hasFailed = false): AnswerRecord {
    if (this.#record !== null && (!hasFailed || this.#record.finishReason === null)) return this.#record;
    const { call, budget, firstTextAt } = this;
    const { arrivedAt } = call.request;
    const ending = this.#endingOf(this.#endOf(hasFailed));
    const actualMs = monotonicMs() - arrivedAt;
    const none = { totalMs: null, ttftMs: null, tpotMs: null };
    const first = this.first?.limits ?? null;
    const limits = budget === null && first === null ? null : { ...none, totalMs: budget?.totalMs ?? null, ...first };
    const usage = told.usage ?? this.usage;
    const trigger = ending?.end === 'landed' ? this.#broken?.by : undefined;
    this.#record = {
      source: 'upstream',
      model: call.model,
      upstream: this.connection.upstream.name,
      budget: limits,
      isGuaranteed: false,
      outcome: ending === null ? null : outcomeOf(ending, { ...none, ...this.first?.times, totalMs: actualMs }, limits),
      finishReason: hasFailed ? null : this.#broken === null ? this.#finishReason : 'length',
      landed: trigger === undefined ? null : { trigger, at_token: usage.completion_tokens },
      ttftMs: firstTextAt === null ? null : firstTextAt - arrivedAt,
      actualMs,
      ...told,
      details: { ...told.details, ...this.first?.report(), upstream: this.#report() },
      usage,
    };
    call.request.answered(this.#record);
    return this.#record;
  }

  /** The end of the answer by a fault. @returns the fault; an error for the client has the outcome */
  failed(fault: unknown): unknown {
    if (fault instanceof ClientGone) return fault;
    const { outcome } = this.record({}, true);
    return fault instanceof ApiError ? fault.of(outcome) : fault;
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
    const { request } = this.call;
    this.held.close();
    const end = this.#endOf(hasFailed);
    this.metrics.ended(status, end);
    const record = this.record({}, hasFailed);
    if (end === 'cancelled') request.addLogFields({ ...record.details });
    const ttft = this.#ttftMs;
    const attributes = {
      'http.response.status_code': status ?? undefined,
      'gen_ai.usage.input_tokens': usage.prompt_tokens,
      'gen_ai.usage.output_tokens': usage.completion_tokens,
      'gen_ai.response.time_to_first_chunk': ttft === null ? undefined : ttft / 1000,
      'sortie.upstream.end': end,
      'sortie.outcome': record.outcome ?? undefined,
    };
    const isFault = end === 'failed' || end === 'rejected';
    this.#trace?.end(attributes, isFault ? String(status === null || status < 400 ? 'upstream_failed' : status) : null);
  }

  /** The exchange in the report. */
  #report() {
    const { status, usage } = this;
    const ttft_ms = this.#ttftMs === null ? null : Math.round(this.#ttftMs);
    return present({ status, ttft_ms, usage: status === 200 ? usage : null });
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

  /** Null: the request itself is at fault, or its client has left. */
  #endingOf(end: TryEnd): Ending | null {
    if (end === 'cancelled' || end === 'rejected') return null;
    if (this.#broken !== null) return this.#broken.ending;
    if (this.status !== null && REFUSED.includes(this.status)) return { end: 'refused' };
    return { end: 'whole', isEmpty: end === 'failed' };
  }
}
