/**
 * An answer of an upstream that ends by its deadline: whole, or at its last whole sentence.
 *
 * Must not know: HTTP frameworks, the local model.
 */
import { ApiError, ClientGone } from '../api/errors.js';
import { monotonicMs } from '../util/clock.js';
import type { Ending } from '../util/outcome.js';
import type { PlainAnswer, UpstreamCall } from './call.js';
import { isStreamed } from './call.js';
import { type ChunkJson, readChunk } from './chunk.js';
import { connectionError, type UpstreamConnection, type UpstreamResponse } from './connection.js';
import { Deadline, DeadlinePassed } from './deadline.js';
import { HeldAnswer, type Hold } from './held-answer.js';
import { withTexts } from './json-fields.js';
import { type Landed, type LandingTrigger, lastChunks, mayLand } from './landed.js';
import { type Output, StreamOutput, WholeOutput } from './output.js';
import { DONE, namesHere, plainAnswer } from './pass-through.js';
import { incoming } from './sse-events.js';
import { budgetHeader, forwardedBody, type UpstreamSettings } from './upstream-body.js';
import type { UsageMeter } from './usage-meter.js';

type Budgeted = UpstreamSettings & { readonly budget: NonNullable<UpstreamSettings['budget']> };

export class TimedAnswer {
  readonly #deadline: Deadline;
  readonly #output: Output;
  readonly #held: HeldAnswer;
  /** The client leaves, the deadline passes, or the answer has ended. */
  readonly #signal: AbortSignal;
  readonly #ended = new AbortController();
  #head: ChunkJson = {};
  #isLate = false;

  constructor(
    private readonly connection: UpstreamConnection,
    private readonly call: UpstreamCall,
    private readonly settings: Budgeted,
    private readonly meter: UsageMeter,
  ) {
    const { arrivedAt, signal } = call.request;
    this.#deadline = new Deadline(arrivedAt, settings.budget.totalMs);
    this.#signal = AbortSignal.any([signal, this.#deadline.signal, this.#ended.signal]);
    this.#output = isStreamed(call) ? new StreamOutput(call, {}) : new WholeOutput();
    this.#held = new HeldAnswer((chunk) => {
      this.#output.send(chunk);
    });
  }

  /**
   * @returns the whole answer; null for one that went out as a stream
   * @throws ApiError deadline_exceeded or upstream_failed before an answer has begun, ClientGone
   */
  async run(): Promise<PlainAnswer | null> {
    try {
      const plain = await this.#read();
      return plain === null ? this.#whole() : this.#output.plain(plain);
    } catch (thrown) {
      const error = connectionError(thrown, this.#signal);
      if (!(error instanceof ClientGone)) return this.#broken(error);
      if (isStreamed(this.call)) return null;
      throw error;
    } finally {
      this.#deadline.close();
      this.#ended.abort();
    }
  }

  /** Reads the answer of the upstream. @returns an answer that is no stream; null at the end of one */
  async #read(): Promise<PlainAnswer | null> {
    const { call, connection, meter } = this;
    const response = await connection.post({
      path: call.path,
      body: forwardedBody(call.request, connection.upstream, this.#streaming()),
      requestId: call.request.id,
      headers: {
        ...call.traceHeaders,
        ...budgetHeader(connection.upstream, this.#deadline.endsAt - monotonicMs()),
      },
      signal: this.#signal,
    });
    meter.began(response.status);
    if (!response.isStream) return plainAnswer(response, namesHere(call), meter, this.#signal);
    try {
      await this.#readEvents(response);
    } finally {
      response.body.destroy();
    }
    return null;
  }

  /** The upstream streams in any case. A client that asked for no stream gets its counts of tokens. */
  #streaming(): Readonly<Record<string, unknown>> {
    return isStreamed(this.call) ? {} : { stream: true, stream_options: { include_usage: true } };
  }

  async #readEvents({ body }: UpstreamResponse): Promise<void> {
    const names = namesHere(this.call);
    for await (const event of incoming(body)) {
      // Comments are no sign of an answer. The gateway sends its own.
      if (event.type === 'comment') continue;
      if (event.data === DONE) return;
      this.#add(withTexts(event.data, names));
      await this.#output.drained();
      this.#signal.throwIfAborted();
    }
    if (!this.#held.isFinished) throw new ApiError('upstream_failed', 'The stream of the upstream ended early.');
  }

  #add(data: string): void {
    const chunk = readChunk(data);
    this.#head = chunk.json;
    this.meter.read(chunk.json);
    this.meter.text(chunk.text.length);
    this.#held.add(chunk, this.#hold());
  }

  #hold(): Hold {
    const { holdsSentences, budget } = this.settings;
    if (!this.#output.isSeen) return 'all';
    if (holdsSentences) return 'sentence';
    if (budget.onMiss === 'truncate' || !mayLand(this.call)) return 'none';
    const isHeld = this.#deadline.holds(monotonicMs(), this.meter.firstTextAt, this.#held.sentences);
    return isHeld ? 'sentence' : 'none';
  }

  #whole(): PlainAnswer | null {
    this.#held.releaseAll();
    return this.#output.end([], this.#report(null), { 'x-sortie-source': 'upstream' });
  }

  /** The deadline has passed, or the upstream failed. */
  #broken(error: unknown): PlainAnswer | null {
    this.#ended.abort();
    if (this.#held.isFinished) return this.#whole();
    const trigger: LandingTrigger = error instanceof DeadlinePassed ? 'deadline' : 'upstream_failed';
    this.#isLate = trigger === 'deadline';
    const end = this.#end();
    this.meter.broke(trigger, this.#ending(end));
    if (end === null) return this.#output.fail(this.#isLate ? late() : error);
    const report = this.#report({ trigger, characters: end.length, sentence: end.isSentence });
    const last = lastChunks(this.call, this.#head, { ...end, usage: this.meter.usage, report });
    return this.#output.end(last, report, { 'x-sortie-source': 'upstream-landed' });
  }

  /** Ends the text where it may end; null if it can't. */
  #end(): { readonly length: number; readonly isSentence: boolean } | null {
    const { received, isOther } = this.#held;
    if (this.settings.budget.onMiss === 'truncate' && this.#isLate && received > 0) {
      this.#held.releaseAll();
      return { length: received, isSentence: false };
    }
    if (isOther || !mayLand(this.call)) return null;
    const end = this.#held.cut();
    return end.length === 0 ? null : end;
  }

  /** The end as the client sees it. */
  #ending(end: { readonly isSentence: boolean } | null): Ending {
    if (end !== null) return { end: end.isSentence ? 'landed' : 'cut' };
    return { end: 'cut', isEmpty: !this.#output.isSeen || !this.#held.isOther };
  }

  #report(landed: Landed | null): Readonly<Record<string, unknown>> {
    const { arrivedAt, budgetMs } = this.#deadline;
    const actual = monotonicMs() - arrivedAt;
    return {
      source: landed === null ? 'upstream' : 'upstream-landed',
      budget_ms: budgetMs,
      actual_ms: Math.round(actual * 1000) / 1000,
      met: actual <= budgetMs && (landed?.sentence ?? true),
      landed,
      upstream: { ...this.meter.report(), aborted: landed !== null },
    };
  }
}

function late(): ApiError {
  return new ApiError('deadline_exceeded', 'The upstream model had no whole sentence within the latency budget.');
}
