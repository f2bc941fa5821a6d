/**
 * An answer in pieces. Under a budget it ends by its deadline: the upstream's whole one, or to its last whole sentence,
 * or the local model's. The first text that goes out decides whose answer it is. Until then both may run.
 *
 * Must not know: HTTP frameworks, how the local model answers.
 */
import { ApiError, ClientGone } from '../api/errors.js';
import type { Piece } from '../api/generation/choice.js';
import { MAX_MS } from '../api/params/budget.js';
import { type AnswerRecord, reportOf } from '../telemetry/answer-record.js';
import type { NetTrigger } from '../telemetry/upstream-metrics.js';
import type { Ending } from '../../protocol/outcome.js';
import { monotonicMs } from '../../util/clock.js';
import { type AnswerForm, formOf, isStreamed, type PlainAnswer, type UpstreamCall } from './call.js';
import { type Chunk, isOther, readChunk, Refused } from './chunk.js';
import { connectionError, wholeBody } from './connection.js';
import { Deadline, DeadlinePassed } from './deadline.js';
import { type Counts, countsOf, type Exchange, type SharedParts, type Told } from './exchange.js';
import { HeldAnswer, type Hold } from './held-answer.js';
import { Net, type NetFor, type NetShared, type Side } from './net.js';
import { Output } from './output.js';
import { plainAnswer } from './pass-through.js';
import type { UpstreamSettings } from './upstream-body.js';

/** An upstream that gives no more: with an error, or a response that is one. */
interface Failed {
  readonly trigger: NetTrigger;
  readonly failure: Error | PlainAnswer;
}

/** The reason with which the request to an upstream ends that the local model has answered. */
const OVERTAKEN = new Error('the local model has answered');

/** The counts of two models together. */
function summed(one: Counts, other: Counts): Counts {
  const prompt_tokens = one.prompt_tokens + other.prompt_tokens;
  const completion_tokens = one.completion_tokens + other.completion_tokens;
  return countsOf({ prompt_tokens, completion_tokens }, one.estimated === true || other.estimated === true);
}

export class TimedAnswer implements NetFor {
  readonly deadline: Deadline;
  readonly form: AnswerForm;
  readonly localHold: Hold;
  readonly #isTimed: boolean;
  readonly #output: Output;
  readonly #held: HeldAnswer;
  readonly #net: Net | null;
  /** Whether it is known that the upstream had its first part in time, or not. */
  #isKnown = false;
  /** The client leaves, the deadline passes, or the answer has ended. */
  readonly #signal: AbortSignal;
  readonly #ended = new AbortController();
  #winner: Side | null = null;
  /** The upstream has sent all events. */
  #isTold = false;

  /**
   * @param settings without a budget and a first part the answer has no deadline, and only its own end
   * @param nets null: the answer has no net
   */
  constructor(
    private readonly shared: SharedParts,
    readonly call: UpstreamCall,
    private readonly settings: UpstreamSettings,
    private readonly exchange: Exchange,
    private readonly nets: NetShared | null,
  ) {
    const { budget, first } = settings;
    this.#isTimed = budget !== null || first !== null;
    exchange.deadline = this.deadline = new Deadline(call.request.arrivedAt, budget?.totalMs ?? MAX_MS, first);
    this.#signal = AbortSignal.any([call.request.signal, this.deadline.signal, this.#ended.signal]);
    const form = formOf(call);
    this.form = { ...form, mayLand: this.#isTimed && form.mayLand };
    const output = (this.#output = new Output(call, nets?.context.model.tokenizer ?? null));
    this.localHold = output.stream === null || form.isWholeOnly ? 'all' : settings.holdsSentences ? 'sentence' : 'none';
    this.#held = new HeldAnswer(form.choices, (piece) => {
      // Thoughts decide nothing.
      if ('finishReason' in piece || piece.text !== '' || isOther(piece)) this.claim('upstream');
      this.send(piece, 'upstream');
    });
    this.#net = nets === null ? null : new Net(nets, this, shared.early);
    void this.#net?.isArmed().then((isArmed) => {
      if (isArmed) output.stream?.keepOpen();
    });
  }

  drained(): Promise<void> | null {
    return this.#output.stream?.drained() ?? null;
  }

  isNeeded(): boolean {
    return this.#winner === null && !this.#hasEnd;
  }

  /**
   * @returns the whole answer; null for one that went out as a stream
   * @throws ApiError deadline_exceeded or upstream_failed before an answer has begun, ClientGone
   */
  async run(): Promise<PlainAnswer | null> {
    try {
      const end = await this.#upstreamEnd();
      if (end === null) return this.#whole();
      return 'trigger' in end ? await this.#without(end) : this.#plain(end);
    } catch (thrown) {
      // A stream that has begun ends in any case.
      return this.#output.fail(this.exchange.failed(thrown));
    } finally {
      this.deadline.close();
      if (!this.#isTold) this.#ended.abort(new ClientGone());
      this.#close();
    }
  }

  #close(): void {
    const { model } = this.call;
    const facts = this.#net?.close(this.#winner === 'local');
    if (facts !== undefined) this.nets?.observed({ model, upstream: this.shared.connection.upstream.name, ...facts });
  }

  /** @returns null for an answer that has its end */
  async #upstreamEnd(): Promise<PlainAnswer | Failed | null> {
    const net = this.#net;
    const { caller, signal } = this.call.request;
    try {
      if (net !== null && !this.shared.breaker.admits(caller.tenant, monotonicMs()) && (await net.isArmed())) {
        const failure = new ApiError('upstream_failed', 'The upstream failed several times in a row.');
        return { trigger: 'breaker', failure };
      }
      const plain = await this.#read();
      if (plain !== null && (await net?.replaces(plain)) === true) return { trigger: 'status', failure: plain };
      this.claim('upstream');
      return this.#winner === 'local' ? { trigger: 'upstream_failed', failure: OVERTAKEN } : plain;
    } catch (thrown) {
      if (this.#signal.aborted && !signal.aborted) this.#known(false);
      const failure = connectionError(thrown, this.#signal);
      return { trigger: 'upstream_failed', failure: failure instanceof Error ? failure : new Error(String(failure)) };
    }
  }

  /** The end of the answer without more of the upstream: the local model's answer, or what there is. */
  async #without({ trigger, failure }: Failed): Promise<PlainAnswer | null> {
    const net = this.#net;
    const { signal } = this.call.request;
    if (this.#hasEnd || failure instanceof Refused) this.claim('upstream');
    if (net !== null && this.#winner !== 'upstream' && !(failure instanceof ClientGone)) {
      if (!(failure instanceof DeadlinePassed)) await net.start(trigger);
      const end = signal.aborted ? null : net.finish();
      if (end !== null) {
        this.exchange.broke(this.deadline.signal.aborted ? 'deadline' : 'upstream_failed', end.ending);
        return this.#finished(end.own);
      }
    }
    if (signal.aborted) {
      if (isStreamed(this.call)) return null;
      throw new ClientGone();
    }
    return failure instanceof Error ? this.#broken(failure) : this.#plain(failure);
  }

  /** Whether the text of the upstream may end here. */
  get #hasEnd(): boolean {
    return this.#held.isFinished || (this.form.mayLand && this.#held.ends.lastIfOver > 0);
  }

  /** The first text decides whose answer it is. The other side ends. */
  claim(side: Side): void {
    if (this.#winner !== null) return;
    this.#winner = side;
    if (side === 'upstream') this.#net?.drop();
    else {
      this.#output.isLocal();
      this.#ended.abort(OVERTAKEN);
    }
  }

  /** Reads the answer of the upstream. @returns an error of it; null at the end of an answer */
  async #read(): Promise<PlainAnswer | null> {
    const { exchange } = this;
    const signal = this.#signal;
    const response = await exchange.ask(signal, this.#isTimed ? { stream: true } : {}, this.shared.breaker);
    if (response.status >= 300) return plainAnswer(response, {}, exchange, signal);
    if (!response.isStream) this.#add(exchange.count(readChunk(await wholeBody(response, signal, exchange.held))));
    else
      for await (const events of exchange.events(response, {}, false)) {
        for (const { chunk } of events) if (chunk !== null) this.#add(chunk);
        await this.drained();
        signal.throwIfAborted();
      }
    this.#isTold = true;
    return null;
  }

  #add({ json, pieces, bytes }: Chunk): void {
    this.exchange.held.add(bytes);
    if (this.#winner !== 'local') this.#output.read(json);
    for (const piece of pieces) this.#held.add(piece, this.#hold());
    if (this.#output.stream !== null && !this.#held.isHolding) this.exchange.sent();
    // The text of a whole answer is sent at its end.
    const { isFinished, isOther, received, ends } = this.#held;
    const hasPart = ends.count > 0 || (this.deadline.isContent && received > 0);
    if (!isFinished && !(this.form.mayLand && (isOther || hasPart))) return;
    this.#known(true);
    this.claim('upstream');
  }

  /** @param hasPart whether the upstream has its first part at this moment, or ends without one */
  #known(hasPart: boolean): void {
    if (this.#isKnown || !this.#isTimed) return;
    this.#isKnown = true;
    this.shared.early.observe(this.call.request.caller.tenant, !hasPart || monotonicMs() > this.deadline.firstAt);
  }

  send(piece: Piece, side: Side): void {
    if ((this.#winner ?? 'upstream') !== side) return;
    if ('finishReason' in piece || piece.thoughts === '') this.deadline.firstSentAt ??= monotonicMs();
    this.#output.send(piece);
  }

  #hold(): Hold {
    const { holdsSentences, budget } = this.settings;
    const { deadline, form } = this;
    // Text that a client has seen can't be taken back for the net.
    const mayNet = this.#winner === null && this.#net?.isPossible === true;
    if (this.#output.stream === null || (mayNet && !form.mayLand)) return 'all';
    if (holdsSentences || deadline.awaitsSentence || (mayNet && !deadline.isContent)) return 'sentence';
    if (budget?.onMiss === 'truncate' || !form.mayLand) return 'none';
    return deadline.holds(monotonicMs(), this.exchange.firstTextAt, this.#held.ends.count) ? 'sentence' : 'none';
  }

  /** The upstream's answer that is no stream. */
  #plain(answer: PlainAnswer): PlainAnswer | null {
    this.exchange.record();
    return this.#output.plain(answer);
  }

  #whole(): PlainAnswer | null {
    this.#held.release('none');
    return this.#finished();
  }

  /** The deadline has passed, or the upstream failed. */
  #broken(error: Error): PlainAnswer | null {
    this.#ended.abort(new ClientGone());
    if (this.#held.isFinished) return this.#whole();
    const isLate = error instanceof DeadlinePassed;
    const end = this.#landed(isLate);
    const isEmpty = this.#output.stream === null || (this.#held.sent === 0 && !this.#held.isOther);
    this.exchange.broke(isLate ? 'deadline' : 'upstream_failed', end ?? { end: 'cut', isEmpty });
    if (end !== null) return this.#finished();
    const rule = 'The upstream model had no whole sentence within the latency budget.';
    return this.#output.fail(this.exchange.failed(isLate ? new ApiError('deadline_exceeded', rule) : error));
  }

  /** Ends the text where it may end; null if it can't. */
  #landed(isLate: boolean): Ending | null {
    if (this.settings.budget?.onMiss === 'truncate' && isLate && this.#held.received > 0) {
      this.#held.release('none');
      return { end: 'cut' };
    }
    return this.#held.isOther || !this.form.mayLand ? null : this.#held.landed();
  }

  /** @param own the record of a local answer that has an end of its own */
  #finished(own: AnswerRecord | null = null): PlainAnswer | null {
    const { exchange } = this;
    const net = this.#net;
    const isLocal = this.#winner === 'local';
    const counted = net?.usage() ?? null;
    exchange.localTokens = counted?.total_tokens ?? 0;
    const isAlone = isLocal && exchange.status !== 200;
    const usage = counted === null ? exchange.usage : isAlone ? counted : summed(exchange.usage, counted);
    const report = net?.report();
    const told: Told = { usage, details: { ...own?.details, ...(report !== undefined && { net: report }) } };
    const end = own === null ? {} : { finishReason: own.finishReason, landed: own.landed };
    const record = exchange.record(isLocal ? { ...told, ...end, source: 'net', ttftMs: own?.ttftMs ?? null } : told);
    return this.#output.end(usage, this.#isTimed ? reportOf(record) : undefined);
  }
}
