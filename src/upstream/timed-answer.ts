/**
 * An answer that ends by its deadline: the upstream's whole one, or to its last whole sentence, or the local model's.
 * The first text that goes out decides whose answer it is. Until then both may run.
 *
 * Must not know: HTTP frameworks, how the local model answers.
 */
import { ApiError, ClientGone } from '../api/errors.js';
import { SOURCE_HEADER } from '../api/schemas/headers.js';
import { monotonicMs } from '../util/clock.js';
import type { Ending } from '../util/outcome.js';
import type { Breaker } from './breaker.js';
import type { PlainAnswer, UpstreamCall } from './call.js';
import { isStreamed } from './call.js';
import { type Chunk, type ChunkJson, readChunk, Refused } from './chunk.js';
import { connectionError, type UpstreamConnection, type UpstreamResponse } from './connection.js';
import { Deadline, DeadlinePassed } from './deadline.js';
import { HeldAnswer, type Hold } from './held-answer.js';
import { withTexts } from './json-fields.js';
import { LocalText } from './local-text.js';
import { type Landed, type LandingTrigger, lastChunks, mayLand } from './landed.js';
import { Net, type NetShared } from './net.js';
import { isNetted, type NetTrigger } from './net-policy.js';
import { type Output, StreamOutput, WholeOutput } from './output.js';
import { DONE, namesHere, plainAnswer } from './pass-through.js';
import { incoming } from './sse-events.js';
import { failedOften, late, LocalAnswers } from './timed-faults.js';
import { budgetHeader, forwardedBody, type UpstreamSettings } from './upstream-body.js';
import { timedReport } from './timed-report.js';
import type { UsageMeter } from './usage-meter.js';

type Budgeted = UpstreamSettings & { readonly budget: NonNullable<UpstreamSettings['budget']> };

/** The parts that the answers of an upstream share. */
interface Shared {
  /** Null: no net. */
  readonly nets: NetShared | null;
  readonly breaker: Breaker;
}

/** An upstream that gives no more: with an error, or a response that is one. */
interface Failed {
  readonly trigger: NetTrigger;
  readonly failure: Error | PlainAnswer;
}

const LOCAL = { [SOURCE_HEADER]: 'local' };

export class TimedAnswer {
  readonly #deadline: Deadline;
  readonly #output: Output;
  readonly #held: HeldAnswer;
  readonly #net: Net | null;
  readonly #local: LocalText;
  /** The client leaves, the deadline passes, or the answer has ended. */
  readonly #signal: AbortSignal;
  readonly #ended = new AbortController();
  #winner: 'upstream' | 'local' | null = null;
  #head: ChunkJson = {};
  #isLate = false;

  constructor(
    private readonly connection: UpstreamConnection,
    private readonly call: UpstreamCall,
    private readonly settings: Budgeted,
    private readonly meter: UsageMeter,
    private readonly shared: Shared,
  ) {
    const { arrivedAt, signal } = call.request;
    const deadline = new Deadline(arrivedAt, settings.budget.totalMs);
    this.#deadline = deadline;
    this.#signal = AbortSignal.any([signal, deadline.signal, this.#ended.signal]);
    const output = isStreamed(call) ? new StreamOutput(call, {}) : new WholeOutput();
    this.#output = output;
    this.#held = new HeldAnswer((chunk) => {
      // Thoughts decide nothing.
      if (chunk.text !== '' || chunk.isOther || chunk.finishReason !== null) this.#claim('upstream');
      if (this.#winner !== 'local') output.send(chunk);
    });
    this.#local = new LocalText(output.isSeen, settings.holdsSentences, (chunk) => {
      this.#claim('local');
      if (this.#winner === 'local') output.send(chunk);
    });
    this.#net = shared.nets === null ? null : this.#netOf(shared.nets);
  }

  #netOf(nets: NetShared): Net {
    const { call } = this;
    const sink = {
      add: (chunk: Chunk): void => {
        this.#local.add(chunk);
      },
      drained: () => this.#output.drained(),
    };
    const ended = (): void => {
      this.#claim('local');
    };
    const isNeeded = (): boolean => this.#winner === null && !this.#held.hasSentence;
    return new Net(nets, { name: call.model, call, deadline: this.#deadline, sink, isNeeded, ended });
  }

  /**
   * @returns the whole answer; null for one that went out as a stream
   * @throws ApiError deadline_exceeded or upstream_failed before an answer has begun, ClientGone
   */
  async run(): Promise<PlainAnswer | null> {
    try {
      const end = await this.#upstreamEnd();
      if ('trigger' in end) return await this.#without(end);
      return end.plain === null ? this.#whole() : this.#output.plain(end.plain);
    } finally {
      this.#deadline.close();
      this.#ended.abort();
      this.#net?.close(this.#winner === 'local', this.call.request.signal.aborted);
    }
  }

  async #upstreamEnd(): Promise<{ readonly plain: PlainAnswer | null } | Failed> {
    try {
      if (await this.#isBroken()) return { trigger: 'breaker', failure: failedOften() };
      const plain = await this.#read();
      if (plain !== null && (await this.#isNetted(plain))) return { trigger: 'status', failure: plain };
      this.#claim('upstream');
      return this.#winner === 'local' ? { trigger: 'upstream_failed', failure: new LocalAnswers() } : { plain };
    } catch (thrown) {
      const failure = connectionError(thrown, this.#signal);
      return { trigger: 'upstream_failed', failure: failure instanceof Error ? failure : new Error(String(failure)) };
    }
  }

  /** Whether the upstream failed several times in a row, and the local model can answer. */
  async #isBroken(): Promise<boolean> {
    if (this.#net === null || this.shared.breaker.admits(monotonicMs())) return false;
    return (await this.#deadline.within(this.#net.isArmed())) === true;
  }

  /** Whether the local model answers in place of this response. */
  async #isNetted(plain: PlainAnswer): Promise<boolean> {
    if (this.#net === null || (plain.status < 500 && plain.status !== 429)) return false;
    const isArmed = await this.#deadline.within(this.#net.isArmed());
    return isArmed === true && isNetted(plain, this.#net.roomMs, Date.now());
  }

  /** The end of the answer without more of the upstream: the local model's answer, or what there is. */
  async #without({ trigger, failure }: Failed): Promise<PlainAnswer | null> {
    const net = this.#net;
    if (this.#held.hasSentence || this.#held.isFinished || failure instanceof Refused) this.#claim('upstream');
    if (net !== null && this.#winner !== 'upstream' && !(failure instanceof ClientGone)) {
      if (!(failure instanceof DeadlinePassed)) {
        this.#local.show();
        await this.#deadline.within(net.start(trigger));
      }
      const answer = this.call.request.signal.aborted ? undefined : this.#localAnswer(net);
      if (answer !== undefined) return answer;
    }
    if (this.call.request.signal.aborted) return this.#gone();
    return failure instanceof Error ? this.#broken(failure) : this.#output.plain(failure);
  }

  #gone(): null {
    if (isStreamed(this.call)) return null;
    throw new ClientGone();
  }

  /** @returns undefined: the local model has no whole sentence */
  #localAnswer(net: Net): PlainAnswer | null | undefined {
    const { end } = net;
    if (end !== null) {
      this.#claim('local');
      this.#local.finish();
      this.#answeredLocally('whole');
      return this.#output.end([], this.#report('local', null), LOCAL);
    }
    const cut = this.#local.cut();
    if (cut.length === 0) return undefined;
    this.#answeredLocally(cut.isSentence ? 'landed' : 'cut');
    const report = this.#report('local', { trigger: 'deadline', characters: cut.length, sentence: cut.isSentence });
    const usage = net.usage(cut.length);
    return this.#output.end(lastChunks(this.call, this.#local.head, { ...cut, usage, report }), report, LOCAL);
  }

  #answeredLocally(end: Ending['end']): void {
    const trigger = this.#deadline.signal.aborted ? 'deadline' : 'upstream_failed';
    this.meter.broke(trigger, { end });
    this.meter.standIn(this.#net?.paidTokens ?? 0);
  }

  /** The first text decides whose answer it is. The other side ends. */
  #claim(side: 'upstream' | 'local'): void {
    if (this.#winner !== null) return;
    this.#winner = side;
    if (side === 'upstream') this.#net?.drop();
    else this.#ended.abort(new LocalAnswers());
  }

  /** Reads the answer of the upstream. @returns an answer that is no stream; null at the end of one */
  async #read(): Promise<PlainAnswer | null> {
    const { call, meter } = this;
    const response = await this.#asked();
    meter.began(response.status);
    if (!response.isStream) return plainAnswer(response, namesHere(call), meter, this.#signal);
    try {
      await this.#readEvents(response);
    } finally {
      response.body.destroy();
    }
    return null;
  }

  async #asked(): Promise<UpstreamResponse> {
    const { call, connection } = this;
    const { breaker } = this.shared;
    const asked = connection.post({
      path: call.path,
      body: forwardedBody(call.request, connection.upstream, this.#streaming()),
      requestId: call.request.id,
      headers: {
        ...call.traceHeaders,
        ...budgetHeader(connection.upstream, this.#deadline.endsAt - monotonicMs()),
      },
      signal: this.#signal,
    });
    const response = await asked.catch((error: unknown) => {
      if (!this.#signal.aborted) breaker.failed(monotonicMs());
      throw error;
    });
    if (response.status >= 500) breaker.failed(monotonicMs());
    else breaker.succeeded();
    return response;
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
    // The text of a whole answer is sent at its end.
    const { sentences, isFinished, isOther } = this.#held;
    if (sentences > 0 || isFinished || isOther) this.#claim('upstream');
  }

  #hold(): Hold {
    const { holdsSentences, budget } = this.settings;
    if (!this.#output.isSeen) return 'all';
    // Text that a client has seen can't be taken back for the net.
    if (holdsSentences || (this.#winner === null && this.#net?.isPossible === true)) return 'sentence';
    if (budget.onMiss === 'truncate' || !mayLand(this.call)) return 'none';
    const isHeld = this.#deadline.holds(monotonicMs(), this.meter.firstTextAt, this.#held.sentences);
    return isHeld ? 'sentence' : 'none';
  }

  #whole(): PlainAnswer | null {
    this.#held.releaseAll();
    return this.#output.end([], this.#report('upstream', null), { [SOURCE_HEADER]: 'upstream' });
  }

  /** The deadline has passed, or the upstream failed. */
  #broken(error: Error): PlainAnswer | null {
    this.#ended.abort();
    if (this.#held.isFinished) return this.#whole();
    const trigger: LandingTrigger = error instanceof DeadlinePassed ? 'deadline' : 'upstream_failed';
    this.#isLate = trigger === 'deadline';
    const end = this.#end();
    this.meter.broke(trigger, this.#ending(end));
    if (end === null) return this.#output.fail(this.#isLate ? late() : error);
    const report = this.#report('upstream', { trigger, characters: end.length, sentence: end.isSentence });
    const last = lastChunks(this.call, this.#head, { ...end, usage: this.meter.usage, report });
    return this.#output.end(last, report, { [SOURCE_HEADER]: 'upstream-landed' });
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

  #report(side: 'upstream' | 'local', landed: Landed | null): Readonly<Record<string, unknown>> {
    const upstream = { ...this.meter.report(), aborted: landed !== null || side === 'local' };
    const characters = side === 'local' ? this.#local.received : this.#held.received;
    const { model: name } = this.call;
    return timedReport({ side, landed, characters, name, upstream, deadline: this.#deadline, net: this.#net });
  }
}
