/** One request to an upstream, its chunks, and the record of its answer. Must not know: landings. */
import { ApiError, ClientGone } from '../api/errors.js';
import { answerAttributes, type AnswerRecord, type Landed } from '../telemetry/answer-record.js';
import type { CallTrace } from '../telemetry/trace.js';
import type { TryEnd, UpstreamMetrics } from '../telemetry/upstream-metrics.js';
import { monotonicMs } from '../../util/clock.js';
import { present } from '../../util/present.js';
import { type Ending, outcomeOf } from '../../protocol/outcome.js';
import type { Breaker } from './breaker.js';
import { type Chunk, ChunkReader } from './chunk.js';
import { formOf, type OpenBody, type UpstreamCall } from './call.js';
import { Unreachable, type UpstreamConnection, type UpstreamResponse } from './connection.js';
import type { Deadline } from './deadline.js';
import type { EarlyStarts } from './early-start.js';
import { HeldBytes } from './held-bytes.js';
import { DONE, eventsIn, type Incoming } from './sse-events.js';
import { budgetHeader } from './upstream.js';
import { estimatedTokens, forwardedBody, promptTokens, type UpstreamSettings } from './upstream-body.js';

/** An event of a stream; null: it is no chunk. */
export interface ChunkEvent {
  readonly event: Incoming;
  readonly chunk: Chunk | null;
}

/** The parts that all models and answers of one upstream share. */
export interface SharedParts {
  readonly connection: UpstreamConnection;
  readonly breaker: Breaker;
  readonly early: EarlyStarts;
}

/** Counts of tokens, as an API of OpenAI has them. SDKs keep the mark of estimates as an extra field. */
export interface Counts {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly estimated?: true;
}

type Tokens = Pick<Counts, 'prompt_tokens' | 'completion_tokens'>;

export const countsOf = ({ prompt_tokens, completion_tokens }: Tokens, isEstimate = false): Counts => ({
  prompt_tokens,
  completion_tokens,
  total_tokens: prompt_tokens + completion_tokens,
  ...(isEstimate && { estimated: true }),
});

/** @param prompt tokens of the prompt @param characters of the answer */
export const estimateOf = (prompt: number, characters: number): Counts =>
  countsOf({ prompt_tokens: prompt, completion_tokens: estimatedTokens(characters) }, true);

/** The parts of a record that are not the upstream's own. */
export type Told = Partial<Omit<AnswerRecord, 'usage'> & { readonly usage: Counts }>;

/** Why an answer ended before its upstream ended it. */
type Breach = Exclude<Landed['trigger'], 'budget'>;

export class Exchange {
  readonly #startedAt = monotonicMs();
  readonly #trace: CallTrace | null;
  /** Of the response; null without one. */
  status: number | null = null;
  firstTextAt: number | null = null;
  #broken: { readonly by: Breach; readonly ending: Ending } | null = null;
  #characters = 0;
  #stated: Counts | null = null;
  #finishReason: string | null = null;
  /** Tokens of a local answer that stood in, with its prompt. */
  localTokens = 0;
  #record: AnswerRecord | null = null;
  /** Of the answer; null: it passes unchanged. */
  deadline: Deadline | null = null;
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
   * Asks the upstream, within the rest of the budget.
   * @param changes of the body
   * @param breaker hears of the response, or of its absence
   * @throws ApiError upstream_failed without a response; the reason of the signal once it aborts
   */
  async ask(signal: AbortSignal, changes: OpenBody = {}, breaker: Breaker | null = null): Promise<UpstreamResponse> {
    const { budget } = this;
    const { path, request } = this.call;
    const { upstream } = this.connection;
    const { tenant } = request.caller;
    const endsAt = Math.min(this.deadline?.endsAt ?? Infinity, request.arrivedAt + (budget?.totalMs ?? Infinity));
    const left = budget === null ? {} : budgetHeader(upstream, endsAt - monotonicMs());
    const headers = { 'x-request-id': request.id, ...this.#trace?.headers, ...left };
    const asked = this.connection.post(path, forwardedBody(request, upstream, changes), headers, signal);
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

  /**
   * The events of a stream with their chunks, in the groups in which they arrive.
   * @param names new texts of fields at the top of chunks
   * @param isOpen whether errors and other texts pass, without a chunk
   * @throws ApiError upstream_failed for another text, or without an end
   */
  async *events(
    response: UpstreamResponse,
    names: Readonly<Record<string, string>>,
    isOpen: boolean,
  ): AsyncGenerator<readonly ChunkEvent[], void, undefined> {
    const chunks = new ChunkReader(names, this.withoutKey);
    const ended = new Set<number>();
    let isTold = false;
    for await (const events of eventsIn(response.body, this.held)) {
      const read: ChunkEvent[] = [];
      for (const event of events) {
        isTold = event.type === 'event' && event.data === DONE;
        try {
          const chunk = event.type === 'comment' || isTold ? null : this.count(chunks.read(event.data));
          for (const piece of chunk?.pieces ?? []) if ('finishReason' in piece) ended.add(piece.index);
          read.push({ event, chunk });
        } catch (error) {
          if (!isOpen) {
            yield read;
            throw error;
          }
          read.push({ event, chunk: null });
        }
      }
      yield read;
    }
    // Some upstreams give fewer choices than the request asks for.
    const least = isTold ? 1 : formOf(this.call).choices;
    if (ended.size < (isOpen ? Number(!isTold) : least))
      throw new ApiError('upstream_failed', 'The stream of the upstream ended early.');
  }

  /** Counts a part of the answer, or a whole one. @param hasTimes whether its first content counts */
  count(chunk: Chunk, hasTimes = true): Chunk {
    const { json, pieces, characters } = chunk;
    const { usage } = json;
    for (const piece of pieces) if ('finishReason' in piece) this.#finishReason = piece.finishReason;
    this.#characters += characters;
    // Only content is a first token: thoughts, roles and calls are none.
    if (hasTimes && this.firstTextAt === null && pieces.some((piece) => 'text' in piece && piece.text !== '')) {
      this.firstTextAt = monotonicMs();
      this.metrics.firstContent(this.firstTextAt - this.#startedAt);
    }
    const { prompt_tokens, completion_tokens } = usage ?? {};
    if (typeof prompt_tokens === 'number' && typeof completion_tokens === 'number')
      this.#stated = countsOf({ prompt_tokens, completion_tokens });
    return chunk;
  }

  /** The client has all text so far. Other APIs repeat it in their last event. */
  sent(): void {
    this.held.keep(this.call.writing.errorBody === null ? 0 : this.#characters);
  }

  /** The upstream did not end its answer. @param ending as the client sees it; absent: in the text so far */
  broke(by: Breach, ending: Ending = { end: 'cut', isEmpty: this.firstTextAt === null }): void {
    this.#broken ??= { by, ending };
  }

  /** The counts of the upstream, else estimates by the length of texts, thoughts and calls. */
  get usage(): Counts {
    return this.#stated ?? estimateOf(promptTokens(this.call.request.body), this.#characters);
  }

  /**
   * The answer as its client has it, made once at its end.
   * @param told the facts of an answer that has other text than the upstream's, or another end
   * @param hasFailed whether the client gets an error
   */
  record(told: Told = {}, hasFailed = false): AnswerRecord {
    if (this.#record !== null && (!hasFailed || this.#record.finishReason === null)) return this.#record;
    const { call, budget, firstTextAt, status } = this;
    const { arrivedAt } = call.request;
    const ending = this.#endingOf(this.#endOf(hasFailed));
    const actualMs = monotonicMs() - arrivedAt;
    const none = { totalMs: null, ttftMs: null, tpotMs: null };
    const first = this.deadline?.firstTold() ?? null;
    const totalMs = budget?.totalMs ?? null;
    const limits = budget === null && first === null ? null : { ...none, totalMs, ...first?.limits };
    const usage = told.usage ?? this.usage;
    const trigger = ending?.end === 'landed' ? this.#broken?.by : undefined;
    const ttft_ms = this.#ttftMs === null ? null : Math.round(this.#ttftMs);
    const own = present({ status, ttft_ms, usage: status === 200 ? this.usage : null });
    this.#record = {
      source: 'upstream',
      model: call.model,
      upstream: this.connection.upstream.name,
      budget: limits,
      isGuaranteed: false,
      outcome: ending === null ? null : outcomeOf(ending, { ...none, ...first?.actual, totalMs: actualMs }, limits),
      finishReason: hasFailed ? null : this.#broken === null ? this.#finishReason : 'length',
      landed: trigger === undefined ? null : { trigger, at_token: usage.completion_tokens },
      ttftMs: firstTextAt === null ? null : firstTextAt - arrivedAt,
      actualMs,
      ...told,
      details: { ...told.details, ...first?.report, upstream: own },
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

  /** Tokens that the key pays: none without an answer. */
  get paidTokens(): number {
    return (this.status === 200 ? this.usage.total_tokens : 0) + this.localTokens;
  }

  /** An error of the upstream, which may repeat the headers of its request, without the key. */
  readonly withoutKey = (text: string): string => {
    const { key } = this.connection.upstream;
    return key === null ? text : text.replaceAll(key, '***').replaceAll(key.replaceAll('/', '\\/'), '***');
  };

  /** @param hasFailed whether the gateway throws */
  end(hasFailed: boolean): void {
    const { status, usage } = this;
    this.held.close();
    const end = this.#endOf(hasFailed);
    this.metrics.ended(status, end);
    const record = this.record({}, hasFailed);
    if (end === 'cancelled') this.call.request.addLogFields({ ...record.details });
    const attributes = { 'http.response.status_code': status ?? undefined, 'sortie.upstream.end': end };
    const isFault = end === 'failed' || end === 'rejected';
    this.#trace?.end(
      { ...answerAttributes({ ...record, usage, ttftMs: this.#ttftMs }), ...attributes },
      isFault ? String(status === null || status < 400 ? 'upstream_failed' : status) : null,
    );
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
    // The server has no capacity.
    if (this.status === 429 || this.status === 503) return { end: 'refused' };
    return { end: 'whole', isEmpty: end === 'failed' };
  }
}
