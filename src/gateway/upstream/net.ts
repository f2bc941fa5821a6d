/**
 * The net of one answer: the local model answers where its upstream does not. It is armed at arrival, if the engine
 * promises a sentence beside all else that it promised. It sleeps there until its latest start, or the upstream fails.
 *
 * Must not know: the form of answers, connections.
 */
import { setImmediate } from 'node:timers/promises';
import { ApiError, ClientGone } from '../api/errors.js';
import { monotonicMs, timerUntil } from '../../util/clock.js';
import { accuracyBehind } from '../../engine/model/manifest.js';
import { isEnd } from './call.js';
import { type NetStart, accuracyWithin } from './early-start.js';
import { localAnswer, type LocalEnd, localRequest, type LocalRequest } from './local-answer.js';
import type { NetFor, NetOutcome, NetShared } from './net-parts.js';
import { type Asleep, fallAsleep } from './net-sleep.js';
import { barOf, barOfError, type NetTrigger, type NoNet } from './net-policy.js';
import { estimatedTokens } from './upstream-body.js';
import { countsOf } from './landed.js';

/** Without a promise, the local model still tries where the upstream has failed. */
const TRIED: readonly (NoNet | null)[] = ['budget', 'capacity'];

export class Net {
  /** Why there is no net; null while it is armed or runs. */
  #none: NoNet | null = 'not_forecast';
  #isOver = false;
  #local: LocalRequest | null = null;
  #asleep: Asleep | null = null;
  #timer: NodeJS.Timeout | undefined;
  #trigger: NetTrigger | null = null;
  #startedAt: number | null = null;
  /** Time that its text waits from its first sentence on, ms, and the end of this wait. */
  #headStartMs = 0;
  #dueAt: number | null = null;
  #endedAt: number | null = null;
  #end: LocalEnd | null = null;
  #hasFailed = false;
  readonly #stop = new AbortController();
  readonly #decided: Promise<void>;
  #ended: Promise<void> | null = null;

  constructor(
    private readonly shared: NetShared,
    private readonly answer: NetFor,
  ) {
    this.#decided = this.#decide();
  }

  /** Whether it runs, or may start. */
  get isPossible(): boolean {
    return !this.#isOver && (this.#none === null || this.#none === 'not_forecast');
  }

  /** Whether it has started. */
  get isStarted(): boolean {
    return this.#trigger !== null;
  }

  /** Milliseconds until its latest start. */
  get roomMs(): number {
    return (this.#asleep?.latestStart ?? -Infinity) - monotonicMs();
  }

  /** Resolves once it is armed, or it is known that there is none. @returns whether it is armed */
  async isArmed(): Promise<boolean> {
    await this.#decided;
    return this.#none === null && !this.#isOver;
  }

  /** Whether the local model may answer for an upstream that failed: with its promise, or without one. */
  async mayAnswer(): Promise<boolean> {
    await this.#decided;
    return !this.#isOver && (this.#none === null || (this.#local !== null && TRIED.includes(this.#none)));
  }

  /** The local answer that has ended; null if it runs, failed, did not start, or is no answer without its end. */
  get end(): LocalEnd | null {
    const outcome = this.#end?.record?.outcome ?? null;
    return outcome !== null && isEnd(outcome, this.answer.form) ? this.#end : null;
  }

  /** Starts the local answer, if there may be one. @returns whether the local model answers, or has answered */
  async start(trigger: NetTrigger): Promise<boolean> {
    if (!(await this.mayAnswer())) return false;
    this.#begin(trigger);
    await this.#ended;
    return this.end !== null;
  }

  /** The upstream answers: the net is over, and its answer is cancelled. */
  drop(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    if (this.#none === 'not_forecast') this.#announce();
    this.#stop.abort(new ClientGone());
  }

  /** @param isAnswer whether the client got its text; @param isGone whether the client has left */
  close(isAnswer: boolean, isGone: boolean): void {
    const isOvertaken = this.#isOver;
    this.drop();
    const { shared, answer } = this;
    const { call, deadline } = answer;
    const now = monotonicMs();
    const started = this.#startedAt;
    const result = this.#resultOf(isAnswer, isOvertaken, isGone);
    shared.observer?.ended({
      model: call.model,
      upstream: answer.upstream.name,
      result,
      reason: this.#none,
      trigger: this.#trigger,
      startedMs: started === null ? null : started - call.request.arrivedAt,
      leadMs: started === null ? null : deadline.endsAt - started,
      ranMs: started === null ? null : (this.#endedAt ?? now) - started,
    });
  }

  /** The net in the report of the answer; undefined for one that did not start. */
  report(): Readonly<Record<string, unknown>> | undefined {
    if (this.#startedAt === null) return undefined;
    const { call, deadline } = this.answer;
    return {
      trigger: this.#trigger,
      started_ms: Math.round(this.#startedAt - call.request.arrivedAt),
      lead_ms: Math.round(deadline.endsAt - this.#startedAt),
    };
  }

  /** Estimated counts of a local answer. @param characters of its text */
  usage(characters: number) {
    const prompt = this.#local?.read.prompts.reduce((sum, { ids }) => sum + ids.length, 0) ?? 0;
    return countsOf(prompt, estimatedTokens(characters), true);
  }

  #resultOf(isAnswer: boolean, isOvertaken: boolean, isGone: boolean): NetOutcome['result'] {
    if (isGone) return 'cancelled';
    if (this.#startedAt === null) return this.#none === null ? 'unused' : 'none';
    if (isAnswer) return 'answered';
    return isOvertaken && !this.#hasFailed ? 'overtaken' : 'failed';
  }

  async #decide(): Promise<void> {
    // The upstream gets its request first: the local model takes milliseconds to read it.
    await setImmediate();
    const none = await this.#arm().catch((error: unknown): NoNet => {
      if (error instanceof ApiError) return barOfError(error);
      this.#log(error);
      return 'unsupported';
    });
    if (this.#isOver) return;
    this.#none = none;
    this.#announce();
    if (this.#asleep === null || this.#local === null) return;
    this.#ended = this.#sleep(this.#asleep, this.#local);
    const start = this.#start(this.#asleep);
    if (start !== 'latest' && this.answer.isNeeded()) this.#begin('expected', start === 'ahead');
  }

  /** Answers once the engine wakes it. */
  async #sleep({ events }: Asleep, local: LocalRequest): Promise<void> {
    const { value = [] } = await events.next();
    if (this.#isOver || value.length === 0) return;
    const isLost = value.some(({ type }) => type === 'lost');
    if (!this.isStarted && isLost) this.#none = 'not_ready';
    else if (!this.isStarted && !this.answer.isNeeded()) this.drop();
    if (!this.isPossible) return;
    if (!this.isStarted) this.#started('latest_start');
    events.putBack(value);
    await this.#run({ ...local, read: { ...local.read, begun: events } });
  }

  /** It begins at once beside an upstream that is often late, where a slot is free. */
  #start({ latestStart, sentenceMs }: Asleep): NetStart {
    const { context } = this.shared;
    const { answer } = this;
    if (latestStart <= monotonicMs()) return 'ahead';
    const isFree = context.metrics.live < (context.engine.ready?.slots ?? 0);
    if (!isFree || !answer.isEarly()) return 'latest';
    const { depth: { minExit, maxExit } = { minExit: 0, maxExit: 0 }, prompts = [] } = this.#local?.read.engine ?? {};
    const tokens = Math.max(...prompts.map(({ length }) => length));
    const exits = context.model.exits
      .filter(({ layer }) => layer >= minExit && layer <= maxExit)
      .map(({ layer, quality }) => ({ layer, accuracy: accuracyBehind(quality, tokens) }));
    const roomMs = answer.first.at - monotonicMs();
    return answer.upstream.accuracy < accuracyWithin(exits, sentenceMs, roomMs) ? 'rival' : 'ahead';
  }

  /** @throws ApiError for a body that the local model can't answer */
  async #arm(): Promise<NoNet | null> {
    const { shared, answer } = this;
    const { context } = shared;
    const { call } = answer;
    const bar = barOf(call);
    if (bar !== null) return bar;
    this.#local = await localRequest(context, call, answer.first.localTimes);
    const asleep = await fallAsleep(context, this.#local.read.engine, this.#stop.signal);
    if (typeof asleep === 'string') return asleep;
    this.#asleep = asleep;
    return null;
  }

  /** A fault of the local side leaves the answer to the upstream. */
  readonly #log = (fault: unknown): void => {
    this.answer.call.request.addLogFields({ fault: fault instanceof Error ? fault.stack : String(fault) });
  };

  /** Tells the client, as long as the status line is not out. */
  #announce(): void {
    const { call } = this.answer;
    call.header('x-sortie-net', this.#none === null ? 'armed' : 'none');
    if (this.#none !== null) call.header('x-sortie-net-reason', this.#none);
  }

  /** Its first sentence is whole, or it has ended. The text of a net that started ahead waits for the upstream's. */
  spoke(): void {
    const now = monotonicMs();
    const isFirst = this.#dueAt === null;
    this.#dueAt ??= Math.max(now, Math.min(now + this.#headStartMs, this.answer.first.at));
    if (this.#isOver) return;
    if (this.#dueAt <= now) this.answer.due();
    else if (isFirst) {
      this.#timer = setTimeout(() => {
        if (this.answer.isNeeded()) this.answer.due();
      }, timerUntil(this.#dueAt));
    }
  }

  /** @param isAhead whether its text waits as long as that of one at the latest start */
  #begin(trigger: NetTrigger, isAhead = false): void {
    const local = this.#local;
    if (this.#isOver || this.isStarted || local === null || this.answer.call.request.signal.aborted) return;
    this.#started(trigger);
    const { context } = this.shared;
    if (this.#asleep === null) this.#ended = this.#run(unpromised(local));
    else context.engine.wake(local.read.engine.sequences.map(({ id }) => id));
    // A net without time to lose still leaves the upstream its own.
    if (isAhead) this.#headStartMs = this.roomMs > 0 ? this.roomMs : Infinity;
  }

  #started(trigger: NetTrigger): void {
    this.#trigger = trigger;
    this.#startedAt = monotonicMs();
  }

  async #run(local: LocalRequest): Promise<void> {
    const signal = AbortSignal.any([this.#stop.signal, this.answer.call.request.signal]);
    const end = await localAnswer(local, this.answer, signal).catch((thrown: unknown): LocalEnd => {
      if (!(thrown instanceof ClientGone)) this.#log(thrown);
      return { record: null, error: null, tokens: 0 };
    });
    this.#endedAt = monotonicMs();
    this.#end = end;
    this.#hasFailed = end.record === null && !this.#isOver;
    if (end.error !== null) this.answer.call.request.addLogFields({ net_error: end.error.code });
    if (end.record !== null) this.spoke();
  }
}

/** As a request of no net, which leaves promises and other nets their time. */
function unpromised(local: LocalRequest): LocalRequest {
  const { engine } = local.read;
  return { ...local, read: { ...local.read, engine: { ...engine, isNet: false } } };
}
