/**
 * The net of one answer: the local model answers where its upstream does not. It is armed at arrival, if the engine
 * promises a sentence beside all else that it promised. It sleeps there until its latest start, or the upstream fails.
 * Its text waits for its first whole sentence.
 *
 * Must not know: the form of answers, connections.
 */
import { setImmediate } from 'node:timers/promises';
import type { ApiContext, EventStream } from '../api/context.js';
import { ApiError, ClientGone } from '../api/errors.js';
import type { Piece } from '../api/generation/choice.js';
import { begun, recorded } from '../api/generation/serve.js';
import type { AnswerRecord } from '../telemetry/answer-record.js';
import type { NetFacts, NetObserver, NetTrigger } from '../telemetry/upstream-metrics.js';
import type { Ending } from '../../protocol/outcome.js';
import { monotonicMs, timerUntil } from '../../util/clock.js';
import { type AnswerForm, isEnd, type PlainAnswer, type UpstreamCall } from './call.js';
import type { Deadline } from './deadline.js';
import type { EarlyStarts } from './early-start.js';
import { type Counts, countsOf, estimateOf } from './exchange.js';
import { HeldAnswer, type Hold } from './held-answer.js';
import { type Asleep, barOf, barOfError, fallAsleep, localRequest, type LocalRequest } from './local-request.js';
import { isNetted, type NoNet } from './local-request.js';

/** Without a promise, the local model still tries where the upstream has failed. */
const TRIED: readonly (NoNet | null)[] = ['budget', 'capacity'];

/** The parts that the nets of a server share. */
export interface NetShared {
  readonly context: ApiContext;
  readonly observed: NetObserver;
}

export type Side = 'upstream' | 'local';

/** The answer that a net is for. */
export interface NetFor extends Pick<EventStream, 'drained'> {
  readonly call: UpstreamCall;
  readonly deadline: Deadline;
  readonly form: AnswerForm;
  /** Of the local text once it is due. */
  readonly localHold: Hold;
  /** Whether the upstream has no whole sentence so far. */
  isNeeded(): boolean;
  /** The first side that has text gives the whole answer. */
  claim(side: Side): void;
  /** Takes a piece of the side that gives the answer, and none of another one. */
  send(piece: Piece, side: Side): void;
}

export class Net {
  /** Why there is no net; null while it is armed or runs. */
  #none: NoNet | null = 'not_forecast';
  #isOver = false;
  #local: LocalRequest | null = null;
  #asleep: Asleep | null = null;
  #trigger: NetTrigger | null = null;
  #startedAt = Infinity;
  /** Ends the wait of its text for the upstream's. */
  #dueAt: number | null = null;
  #timer: NodeJS.Timeout | undefined;
  #isDue = false;
  #endedAt: number | null = null;
  #record: AnswerRecord | null = null;
  #hasFailed = false;
  readonly #text: HeldAnswer;
  readonly #stop = new AbortController();
  /** Resolves once it is armed, or it is known that there is none. */
  readonly #decided: Promise<unknown>;
  #ended: Promise<void> | null = null;

  constructor(
    private readonly shared: NetShared,
    private readonly answer: NetFor,
    private readonly early: EarlyStarts,
  ) {
    this.#text = new HeldAnswer(answer.form.choices, (piece) => {
      answer.claim('local');
      answer.send(piece, 'local');
    });
    this.#decided = answer.deadline.within(this.#decide());
  }

  /** Whether it runs, or may start. */
  get isPossible(): boolean {
    return !this.#isOver && (this.#none === null || this.#none === 'not_forecast');
  }

  /** Milliseconds until its latest start. */
  get #roomMs(): number {
    return (this.#asleep?.latestStart ?? -Infinity) - monotonicMs();
  }

  /** Whether it is armed, once that is known. */
  async isArmed(): Promise<boolean> {
    await this.#decided;
    return this.#none === null && !this.#isOver;
  }

  /** Whether the local model may answer for an upstream that failed: with its promise, or without one. */
  async #mayAnswer(): Promise<boolean> {
    const isTried = (await this.isArmed()) || (this.#local !== null && TRIED.includes(this.#none));
    return isTried && !this.#isOver;
  }

  /** Whether the local model answers in place of a response. */
  async replaces(plain: PlainAnswer): Promise<boolean> {
    if (plain.status < 500 && plain.status !== 429) return false;
    return (await this.#mayAnswer()) && isNetted(plain, this.#roomMs, Date.now());
  }

  /** The local answer that has ended; null: it runs, failed, did not start, or is no answer of its form. */
  get #end(): AnswerRecord | null {
    const record = this.#record;
    return record?.outcome != null && isEnd(record.outcome, this.answer.form) ? record : null;
  }

  /** The upstream gives no more: the local answer starts, if there may be one. Resolves at its end, or the deadline. */
  async start(trigger: NetTrigger): Promise<void> {
    this.#show();
    if (!(await this.#mayAnswer())) return;
    this.#begin(trigger);
    if (this.#ended !== null) await this.answer.deadline.within(this.#ended);
  }

  /**
   * Ends the local answer, and sends the rest of it.
   * @returns its end as the client sees it, with its record, or null for a text that is cut; null without a sentence
   */
  finish(): { readonly own: AnswerRecord | null; readonly ending: Ending } | null {
    const own = this.#end;
    // The engine cuts an answer at its deadline in the middle of a sentence.
    if (own !== null && own.outcome !== 'cut') {
      this.answer.claim('local');
      this.#text.release('none');
      return { own, ending: { end: own.landed === null ? 'whole' : 'landed', isEmpty: own.outcome === 'empty' } };
    }
    const ending = this.answer.form.isWholeOnly ? null : this.#text.landed();
    return ending && { own: null, ending };
  }

  /** The upstream answers: the net is over, and its answer is cancelled. */
  drop(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    if (this.#none === 'not_forecast') this.#announce();
    this.#stop.abort(new ClientGone());
  }

  /** @param isAnswer whether the client got its text @returns its facts */
  close(isAnswer: boolean): Pick<NetFacts, 'result' | 'trigger' | 'ranMs'> {
    const isOvertaken = this.#isOver;
    this.drop();
    const trigger = this.#trigger;
    const ranMs = trigger === null ? null : (this.#endedAt ?? monotonicMs()) - this.#startedAt;
    return { result: this.#resultOf(isAnswer, isOvertaken), trigger, ranMs };
  }

  /** The net in the report of the answer; undefined for one that did not start. */
  report(): Readonly<Record<string, unknown>> | undefined {
    if (this.#trigger === null) return undefined;
    const { call, deadline } = this.answer;
    return {
      trigger: this.#trigger,
      started_ms: Math.round(this.#startedAt - call.request.arrivedAt),
      lead_ms: Math.round(deadline.endsAt - this.#startedAt),
    };
  }

  /** Counts of the local answer, estimated up to its end; null without text. */
  usage(): Counts | null {
    const { received } = this.#text;
    if (this.#record !== null) return countsOf(this.#record.usage);
    const prompt = this.#local?.read.prompts.reduce((sum, { ids }) => sum + ids.length, 0) ?? 0;
    return received === 0 ? null : estimateOf(prompt, received);
  }

  #resultOf(isAnswer: boolean, isOvertaken: boolean): NetFacts['result'] {
    if (this.answer.call.request.signal.aborted) return 'cancelled';
    if (this.#trigger === null) return this.#none === null ? 'unused' : 'none';
    if (isAnswer) return 'answered';
    return isOvertaken && !this.#hasFailed ? 'overtaken' : 'failed';
  }

  async #decide(): Promise<void> {
    // The upstream gets its request first: the local model takes milliseconds to read it.
    await setImmediate();
    const none = await this.#arm().catch((error: unknown): NoNet => {
      if (error instanceof ApiError) return barOfError(error);
      // A fault of the local side leaves the answer to the upstream.
      this.answer.call.request.addLogFields({ fault: error instanceof Error ? error.stack : String(error) });
      return 'unsupported';
    });
    if (this.#isOver) return;
    this.#none = none;
    this.#announce();
    if (this.#asleep === null || this.#local === null) return;
    this.#ended = this.#sleep(this.#asleep, this.#local);
    // It begins at once beside an upstream that is often late, where a slot is free.
    const { metrics, engine } = this.shared.context;
    const isFree = metrics.live < (engine.ready?.slots ?? 0);
    const isEarly = this.#roomMs <= 0 || (isFree && this.early.isEarly(this.answer.call.request.caller.tenant));
    if (isEarly && this.answer.isNeeded()) this.#begin('expected');
  }

  /** @throws ApiError for a body that the local model can't answer */
  async #arm(): Promise<NoNet | null> {
    const { call, deadline } = this.answer;
    const { context } = this.shared;
    const bar = barOf(call);
    if (bar !== null) return bar;
    this.#local = await localRequest(context, call, deadline.localTimes);
    const asleep = await fallAsleep(context, this.#local.read.engine, this.#stop.signal);
    this.#asleep = typeof asleep === 'string' ? null : asleep;
    return typeof asleep === 'string' ? asleep : null;
  }

  /** Tells the client, as long as the status line is not out. */
  #announce(): void {
    const { call } = this.answer;
    call.header('x-sortie-net', this.#none === null ? 'armed' : 'none');
    if (this.#none !== null) call.header('x-sortie-net-reason', this.#none);
  }

  /** Answers once the engine wakes it. */
  async #sleep({ events }: Asleep, local: LocalRequest): Promise<void> {
    const { value = [] } = await events.next();
    if (this.#isOver || value.length === 0) return;
    if (this.#trigger === null) {
      if (value.some(({ type }) => type === 'lost')) this.#none = 'not_ready';
      else if (this.answer.isNeeded()) this.#started('latest_start');
      else this.drop();
    }
    if (this.#trigger === null) return;
    events.putBack(value);
    await this.#run({ ...local, read: { ...local.read, begun: events } });
  }

  #begin(trigger: NetTrigger): void {
    const local = this.#local;
    if (this.#isOver || this.#trigger !== null || local === null || this.answer.call.request.signal.aborted) return;
    this.#started(trigger);
    const { read } = local;
    // Without a promise it is as a request of no net, which leaves promises and other nets their time.
    if (this.#asleep === null)
      this.#ended = this.#run({ ...local, read: { ...read, engine: { ...read.engine, isNet: false } } });
    else this.shared.context.engine.wake(read.engine.sequences.map(({ id }) => id));
  }

  #started(trigger: NetTrigger): void {
    this.#trigger = trigger;
    this.#startedAt = monotonicMs();
  }

  async #run({ request, read }: LocalRequest): Promise<void> {
    const { call } = this.answer;
    // The request and an estimate of its tokens are taken from the allowance of its key already.
    const caller = { ...request.caller, reserve: () => () => undefined };
    const signal = AbortSignal.any([this.#stop.signal, call.request.signal]);
    const asked = { ...request, caller, signal, addCancelFields: () => undefined, answered: () => undefined };
    const answer = begun(this.shared.context, asked, read, true);
    try {
      for await (const piece of answer.pieces(this.answer)) this.#add(piece);
      recorded(asked, answer, read.id);
      this.#record = answer.record();
    } catch (thrown) {
      this.#hasFailed = !this.#isOver;
      if (!(thrown instanceof ClientGone)) call.request.addLogFields({ net_error: answer.failed(thrown).code });
    }
    this.#endedAt = monotonicMs();
    if (this.#record !== null) this.#spoke();
  }

  #add(piece: Piece): void {
    this.#text.add(piece, this.#isDue ? this.answer.localHold : 'all');
    const parts = this.answer.deadline.isContent ? this.#text.received : this.#text.ends.count;
    if (parts > 0) this.#spoke();
  }

  /** Text goes out as it comes, with the text that waits. */
  #show(): void {
    this.#isDue = true;
    if (this.#text.received > 0) this.#text.release(this.answer.localHold);
  }

  /**
   * Its first part is whole, or it has ended. The text of a net that started early waits as long as that of a late
   * start: one without time leaves the upstream its own.
   */
  #spoke(): void {
    if (this.#isOver) return;
    const now = monotonicMs();
    const earlyMs = (this.#asleep?.latestStart ?? 0) - this.#startedAt;
    const waitMs = this.#trigger !== 'expected' ? 0 : earlyMs > 0 ? earlyMs : Infinity;
    this.#dueAt ??= Math.max(now, Math.min(now + waitMs, this.answer.deadline.firstAt));
    if (this.#dueAt <= now) this.#due();
    else
      this.#timer ??= setTimeout(() => {
        if (this.answer.isNeeded()) this.#due();
      }, timerUntil(this.#dueAt));
  }

  /** A text that is cut without a sentence is no answer, and leaves the upstream its time. */
  #due(): void {
    if (this.#end?.outcome === 'cut' && this.#text.ends.lastIfOver === 0) return;
    this.#show();
    if (this.#end !== null) this.answer.claim('local');
  }
}
