/**
 * An answer that ends by its deadline: the upstream's whole one, or to its last whole sentence, or the local model's.
 * The first text that goes out decides whose answer it is. Until then both may run.
 *
 * Must not know: HTTP frameworks, how the local model answers.
 */
import { ClientGone } from '../api/errors.js';
import { MAX_MS } from '../api/params/budget.js';
import { type AnswerRecord, reportOf } from '../telemetry/answer-record.js';
import type { Ending } from '../../protocol/outcome.js';
import { monotonicMs } from '../../util/clock.js';
import { type AnswerForm, formOf, type PlainAnswer, type UpstreamCall, isStreamed } from './call.js';
import { type Chunk, type HeldPiece, isOther, Refused } from './chunk.js';
import { connectionError } from './connection.js';
import type { Exchange, SharedParts } from './exchange.js';
import { type Counts, countsOf, endingOf, summed } from './landed.js';
import { Deadline, DeadlinePassed, FirstDue } from './deadline.js';
import { HeldAnswer, type Hold } from './held-answer.js';
import { LocalText } from './local-text.js';
import { Net } from './net.js';
import type { NetFor, NetShared } from './net-parts.js';
import { isNetted } from './net-policy.js';
import { Output } from './output.js';
import { plainAnswer } from './pass-through.js';
import { type Failed, failedOften, late, LocalAnswers } from './timed-faults.js';
import { chunksOf } from './translated-answer.js';
import type { UpstreamSettings } from './upstream-body.js';

export class TimedAnswer implements NetFor {
  readonly deadline: Deadline;
  readonly form: AnswerForm;
  readonly #output: Output;
  readonly #held: HeldAnswer;
  readonly #net: Net | null;
  readonly #local: LocalText;
  readonly first: FirstDue;
  /** Whether it is known that the upstream had its first part in time, or not. */
  #isKnown = false;
  /** The client leaves, the deadline passes, or the answer has ended. */
  readonly #signal: AbortSignal;
  readonly #ended = new AbortController();
  #winner: 'upstream' | 'local' | null = null;
  /** The upstream has sent all events. */
  #isTold = false;

  /** @param settings null for a budget that lets the answer go on @param nets null: the answer has no net */
  constructor(
    private readonly shared: SharedParts,
    readonly call: UpstreamCall,
    private readonly settings: UpstreamSettings,
    private readonly exchange: Exchange,
    nets: NetShared | null,
  ) {
    const { arrivedAt, signal } = call.request;
    const { budget, first, holdsSentences } = settings;
    this.deadline = new Deadline(arrivedAt, budget?.totalMs ?? MAX_MS);
    exchange.first = this.first = new FirstDue(arrivedAt, first, this.deadline.endsAt);
    this.#signal = AbortSignal.any([signal, this.deadline.signal, this.#ended.signal]);
    this.form = formOf(call);
    const output = (this.#output = new Output(call, exchange.held, nets?.context.model.tokenizer ?? null));
    this.#held = new HeldAnswer(this.form.choices, (piece) => {
      // Thoughts decide nothing.
      if ('finishReason' in piece || piece.text !== '' || isOther(piece)) this.#claim('upstream');
      if (this.#winner !== 'local') this.#send(piece);
    });
    const sendLocal = (piece: HeldPiece): void => {
      this.#claim('local');
      if (this.#winner === 'local') this.#send(piece);
    };
    const isStream = output.isSeen && !this.form.isWholeOnly;
    const spoke = (): void => this.#net?.spoke();
    this.#local = new LocalText(this.form.choices, isStream, holdsSentences, this.first.isContent, sendLocal, spoke);
    this.#net = nets === null ? null : new Net(nets, this);
    void this.#net?.isArmed().then((isArmed) => {
      if (isArmed) output.keepOpen();
    });
  }

  get upstream() {
    return this.shared.connection.upstream;
  }

  add(piece: HeldPiece): void {
    this.#local.add(piece);
  }

  drained(): Promise<void> | null {
    return this.#output.drained();
  }

  isEarly(): boolean {
    return this.shared.early.isEarly(this.call.request.caller.tenant);
  }

  isNeeded(): boolean {
    return this.#winner === null && !this.#hasEnd;
  }

  due(): void {
    const { record = null } = this.#net?.end ?? {};
    if (record?.outcome === 'cut' && !this.#local.hasSentence) return;
    this.#local.show();
    if (record !== null) this.#claim('local');
  }

  /**
   * @returns the whole answer; null for one that went out as a stream
   * @throws ApiError deadline_exceeded or upstream_failed before an answer has begun, ClientGone
   */
  async run(): Promise<PlainAnswer | null> {
    try {
      const end = await this.#upstreamEnd();
      if ('trigger' in end) return await this.#without(end);
      return end.plain === null ? this.#whole() : this.#plain(end.plain);
    } catch (thrown) {
      // A stream that has begun ends in any case.
      return this.#output.fail(this.exchange.failed(thrown));
    } finally {
      this.deadline.close();
      if (!this.#isTold) this.#ended.abort(new ClientGone());
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
      if (this.#signal.aborted && !this.call.request.signal.aborted) this.#known(false);
      const failure = connectionError(thrown, this.#signal);
      return { trigger: 'upstream_failed', failure: failure instanceof Error ? failure : new Error(String(failure)) };
    }
  }

  /** Whether the upstream failed several times in a row, and the local model can answer. */
  async #isBroken(): Promise<boolean> {
    const { tenant } = this.call.request.caller;
    if (this.#net === null || this.shared.breaker.admits(tenant, monotonicMs())) return false;
    return (await this.deadline.within(this.#net.isArmed())) === true;
  }

  /** Whether the local model answers in place of this response. */
  async #isNetted(plain: PlainAnswer): Promise<boolean> {
    if (this.#net === null || (plain.status < 500 && plain.status !== 429)) return false;
    const mayAnswer = await this.deadline.within(this.#net.mayAnswer());
    return mayAnswer === true && isNetted(plain, this.#net.roomMs, Date.now());
  }

  /** The end of the answer without more of the upstream: the local model's answer, or what there is. */
  async #without({ trigger, failure }: Failed): Promise<PlainAnswer | null> {
    const net = this.#net;
    if (this.#hasEnd || failure instanceof Refused) this.#claim('upstream');
    if (net !== null && this.#winner !== 'upstream' && !(failure instanceof ClientGone)) {
      if (!(failure instanceof DeadlinePassed)) {
        this.#local.show();
        await this.deadline.within(net.start(trigger));
      }
      const answer = this.call.request.signal.aborted ? undefined : this.#localAnswer(net);
      if (answer !== undefined) return answer;
    }
    if (this.call.request.signal.aborted) {
      if (isStreamed(this.call)) return null;
      throw new ClientGone();
    }
    return failure instanceof Error ? this.#broken(failure) : this.#plain(failure);
  }

  /** Whether the text of the upstream may end here. */
  get #hasEnd(): boolean {
    return this.#held.isFinished || (this.form.mayLand && this.#held.hasSentence);
  }

  /** @returns undefined: the local model has no whole sentence */
  #localAnswer(net: Net): PlainAnswer | null | undefined {
    const { record = null } = net.end ?? {};
    // The engine cuts an answer at its deadline in the middle of a sentence.
    if (record !== null && record.outcome !== 'cut') {
      this.#claim('local');
      this.#local.releaseAll();
      return this.#answeredLocally(record, {
        end: record.landed === null ? 'whole' : 'landed',
        isEmpty: record.outcome === 'empty',
      });
    }
    if (this.form.isWholeOnly) return undefined;
    const end = this.#local.cut();
    return end.length === 0 ? undefined : this.#answeredLocally(null, endingOf(end, false));
  }

  /** @param own of an answer that has its own end; null: its text is cut */
  #answeredLocally(own: AnswerRecord | null, ending: Ending): PlainAnswer | null {
    const { exchange } = this;
    exchange.broke(this.deadline.signal.aborted ? 'deadline' : 'upstream_failed', ending);
    const estimate = this.#localUsage();
    exchange.standIn(this.#net?.end?.tokens ?? estimate.total_tokens);
    const usage = own === null ? estimate : countsOf(own.usage.prompt_tokens, own.usage.completion_tokens);
    const others = exchange.status === 200 ? exchange.usage : null;
    const { ttftMs, details, finishReason, landed } = own ?? { ttftMs: null, details: {} };
    const end = finishReason === undefined || landed === undefined ? {} : { finishReason, landed };
    return this.#finished({ source: 'net', ttftMs, details, ...end, usage: summed(usage, others) });
  }

  /** The first text decides whose answer it is. The other side ends. */
  #claim(side: 'upstream' | 'local'): void {
    if (this.#winner !== null) return;
    this.#winner = side;
    if (side === 'upstream') this.#net?.drop();
    else {
      this.#output.isLocal();
      this.#ended.abort(new LocalAnswers());
    }
  }

  /** Reads the answer of the upstream. @returns an error of it; null at the end of an answer */
  async #read(): Promise<PlainAnswer | null> {
    const { call, exchange } = this;
    const endsAt = this.settings.budget === null ? null : this.deadline.endsAt;
    const response = await exchange.ask(endsAt, this.#signal, { stream: true }, this.shared.breaker);
    if (response.status >= 300) return plainAnswer(response, {}, exchange, this.#signal);
    for await (const chunk of chunksOf(response, call, exchange)) {
      this.#add(chunk);
      await this.#output.drained();
      this.#signal.throwIfAborted();
    }
    this.#isTold = true;
    return null;
  }

  #add({ json, pieces }: Chunk): void {
    if (this.#winner !== 'local') this.#output.read(json);
    for (const piece of pieces) this.#held.add(piece, this.#hold());
    // The text of a whole answer is sent at its end.
    const { isFinished, isOther, received, sentences } = this.#held;
    const hasPart = sentences > 0 || (this.first.isContent && received > 0);
    if (!isFinished && !(this.form.mayLand && (isOther || hasPart))) return;
    this.#known(true);
    this.#claim('upstream');
  }

  /** @param hasPart whether the upstream has its first part at this moment, or ends without one */
  #known(hasPart: boolean): void {
    if (this.#isKnown) return;
    this.#isKnown = true;
    this.shared.early.observe(this.call.request.caller.tenant, !hasPart || monotonicMs() > this.first.at);
  }

  #send(piece: HeldPiece): void {
    if ('finishReason' in piece || piece.thoughts === '') this.first.sent(monotonicMs());
    this.#output.send(piece);
  }

  #hold(): Hold {
    const { holdsSentences, budget } = this.settings;
    // Text that a client has seen can't be taken back for the net.
    const mayNet = this.#winner === null && this.#net?.isPossible === true;
    if (!this.#output.isSeen || (mayNet && !this.form.mayLand)) return 'all';
    if (holdsSentences || this.first.awaitsSentence || (mayNet && !this.first.isContent)) return 'sentence';
    if (budget?.onMiss === 'truncate' || !this.form.mayLand) return 'none';
    const isHeld = this.deadline.holds(monotonicMs(), this.exchange.firstTextAt, this.#held.sentences);
    return isHeld ? 'sentence' : 'none';
  }

  /** The upstream's answer that is no stream. */
  #plain(answer: PlainAnswer): PlainAnswer | null {
    this.exchange.record();
    return this.#output.plain(answer);
  }

  #whole(): PlainAnswer | null {
    this.#held.releaseAll();
    return this.#finished(this.#ownUsage());
  }

  /** The deadline has passed, or the upstream failed. */
  #broken(error: Error): PlainAnswer | null {
    this.#ended.abort(new ClientGone());
    if (this.#held.isFinished) return this.#whole();
    const trigger = error instanceof DeadlinePassed ? 'deadline' : 'upstream_failed';
    const isLate = trigger === 'deadline';
    const end = this.#end(isLate);
    this.exchange.broke(trigger, endingOf(end, !this.#output.isSeen || !this.#held.isOther));
    if (end === null) return this.#output.fail(this.exchange.failed(isLate ? late() : error));
    return this.#finished(this.#ownUsage());
  }

  /** Ends the text where it may end; null if it can't. */
  #end(isLate: boolean): { readonly length: number; readonly isSentence: boolean } | null {
    const { received, isOther } = this.#held;
    if (this.settings.budget?.onMiss === 'truncate' && isLate && received > 0) {
      this.#held.releaseAll();
      return { length: received, isSentence: false };
    }
    if (isOther || !this.form.mayLand) return null;
    const end = this.#held.cut();
    return end.length === 0 ? null : end;
  }

  #finished(told: Parameters<Exchange['record']>[0] & { readonly usage: Counts }): PlainAnswer | null {
    const net = this.#net?.report();
    const details = { ...told.details, ...(net !== undefined && { net }) };
    const record = this.exchange.record({ ...told, details });
    return this.#output.end({ usage: told.usage, report: reportOf(record) });
  }

  /** Estimated counts of the local answer so far. */
  #localUsage(): Counts {
    return this.#net?.usage(this.#local.received) ?? countsOf(0, 0);
  }

  /** Counts of the upstream's answer, with those of a local one whose text did not go out. */
  #ownUsage() {
    const others = this.#local.received > 0 ? this.#localUsage() : null;
    this.exchange.standIn(others?.total_tokens ?? 0);
    return { usage: summed(this.exchange.usage, others) };
  }
}
