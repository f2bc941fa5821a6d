/**
 * The outlook: one pass over the requests in order of service. It says when each begins, when it has what its promise
 * covers, and how many tokens it gets. Predictions, exits, promises, least budgets and the wait read it.
 *
 * - Prompts prefill one after the other, each chunk beside one token of every row. So a prompt waits for the prefill of
 *   those ahead of it, and for a step of the rows per chunk.
 * - A step has the rows that run, and the prompts ahead in the order.
 * - A request without a slot waits for the next row that leaves (`SlotQueue`).
 * - The prompts behind a request take a chunk beside each of its tokens, until they are done.
 * - A promise without slack holds up the prompts behind it.
 *
 * All times are formulas: nothing runs forward. Pure functions. Must not know: how a decision is made.
 */
import { cutAt } from '../../protocol/outcome.js';
import type { ExitIndex } from './cost/model.js';
import { StepSum } from './cost/step-costs.js';
import type { PlannedRequest } from './planned-request.js';
import { inOrder, type Snapshot } from './snapshot.js';

/** How a request fares. Milliseconds from the present. */
export interface Fate {
  readonly exit: ExitIndex;
  /** Its first token; 0 for a row. */
  readonly firstAt: number;
  /** The tokens of its promise are there. */
  readonly readyAt: number;
  /** Each token behind the first, and how many of them are there at the deadline. */
  readonly tokenMs: number;
  readonly steps: number;
}

export type Fates = ReadonlyMap<PlannedRequest, Fate>;

export interface Outlook {
  readonly fates: Fates;
  /** A request of no length behind all of them would have its first token. */
  readonly lastAt: number;
  /** A step of all rows. */
  readonly stepMs: number;
}

/** The exit of a request whose prompt begins so late. @param step of the rows that it joins */
export type ExitOf = (each: PlannedRequest, beginsAt: number, step: StepSum) => ExitIndex;

export interface OutlookTerms {
  readonly slots: number;
  readonly exitOf: ExitOf;
  /** On all times, 1 or more. */
  readonly factor?: number;
  /** Slots get free late. */
  readonly isCareful?: boolean;
}

/** @param order requests in order of service */
export function outlook(state: Snapshot, order: readonly PlannedRequest[], terms: OutlookTerms): Outlook {
  const pass = new Pass(state, order, terms);
  for (const each of order)
    if (isRow(each)) pass.run(each);
    else pass.prefill(each);
  return pass;
}

/** The fate of a request of the outlook. */
export function fateOf(fates: Fates, each: PlannedRequest): Fate {
  const fate = fates.get(each);
  if (fate === undefined) throw new Error(`request ${each.sequence.id} has no outlook`);
  return fate;
}

const isRow = ({ isLive, isPrefilling }: PlannedRequest): boolean => isLive && !isPrefilling;

/** The exit of a promise: the shallowest while it may be chosen. */
export const leastOrPresent = ({ isBeginning, minExit, currentExit }: PlannedRequest): ExitIndex =>
  isBeginning ? minExit : currentExit;

/** Milliseconds until a new request of no length has its first token, with every prompt at its shallowest exit. */
export function predictedWaitMs(state: Snapshot): number {
  const { requests, engine } = state;
  if (requests.length === 0) return 0;
  return outlook(state, inOrder(requests), { slots: engine.slots, exitOf: leastOrPresent }).lastAt;
}

/** When requests without a slot get one. */
class SlotQueue {
  #free: number;
  #taken = 0;
  /** Rows per ms that end by themselves: of many rows, the first ends long ahead of the mean. */
  #endsPerMs = 0;
  /** When the rows leave at the latest, in order, but for the prefill of requests that get a slot. */
  readonly #leaving: number[] = [];
  #queuedMs = 0;

  constructor(
    slots: number,
    private readonly isCareful: boolean,
  ) {
    this.#free = slots;
  }

  /** A live request holds a slot. */
  hold(): void {
    this.#free -= 1;
  }

  /** Instant at which the next request has a slot. */
  get nextAt(): number {
    if (this.#free > 0) return 0;
    const ends = this.#taken + 1;
    // Promises count on as many ends as a standard deviation more than they need.
    const byThemselves = (ends + (this.isCareful ? Math.sqrt(ends) : 0)) / this.#endsPerMs;
    return Math.min(this.#leaving[0] ?? 0, byThemselves) + this.#queuedMs;
  }

  /** The next request takes a slot. @param prefillMs of it */
  take(prefillMs: number): void {
    this.#queuedMs += prefillMs;
    if (this.#free > 0) this.#free -= 1;
    else {
      this.#leaving.shift();
      this.#taken += 1;
    }
  }

  /** A row ends by itself. @param afterMs in the mean */
  ends(afterMs: number): void {
    this.#endsPerMs += 1 / afterMs;
  }

  /** A row leaves at the latest. */
  leaves(at: number): void {
    const leavesAt = at - this.#queuedMs;
    const later = this.#leaving.findIndex((each) => each > leavesAt);
    this.#leaving.splice(later < 0 ? this.#leaving.length : later, 0, leavesAt);
  }
}

class Pass implements Outlook {
  readonly fates = new Map<PlannedRequest, Fate>();
  readonly #step: StepSum;
  readonly #factor: number;
  #rows = 0;
  #crowdMs = 0;
  /** Null where each request has a slot. */
  readonly #queue: SlotQueue | null;
  /** Prompts behind the present request, and those ahead of it: their prefill, and with the rows' steps beside it. */
  #behind = { ms: 0, chunks: 0 };
  #ahead = { ms: 0, chunks: 0, wallMs: 0 };
  /** The tightest promise so far: the prefill that it has time for, and when it is ready. */
  #tight = { slackMs: Infinity, readyAt: 0 };

  constructor(
    private readonly state: Snapshot,
    order: readonly PlannedRequest[],
    private readonly terms: OutlookTerms,
  ) {
    const { slots, factor = 1, isCareful = false } = terms;
    this.#factor = factor;
    this.#step = new StepSum(state.costs);
    this.#queue = order.length < slots ? null : new SlotQueue(slots, isCareful);
    if (isCareful && order.some(({ sequence }) => sequence.isNet)) this.#crowdMs = this.#crowdOf(order);
    const full = new StepSum(state.costs);
    let liveMs = 0;
    for (const each of order) {
      if (each.isPrefilling) this.#move(each, 1);
      if (!each.isLive) continue;
      this.#queue?.hold();
      if (each.isPrefilling) liveMs += each.prefillMs(each.currentExit) * factor;
      full.add(each.currentExit);
      if (isRow(each)) this.#join(each.currentExit);
    }
    if (this.#queue === null) return;
    const stepMs = full.ms * factor;
    for (const each of order.filter(isRow)) {
      this.#leaves(each, each.currentExit, liveMs, stepMs);
      if (!each.sequence.isExactLength) this.#queue.ends(Math.max(1, each.meanLeft(each.currentExit)) * stepMs);
    }
  }

  get stepMs(): number {
    return this.#step.ms * this.#factor;
  }

  /** A step beside a request. Nets that start together run beside each other, whatever their order is. */
  #paceOf({ sequence }: PlannedRequest): number {
    return sequence.isNet ? Math.max(this.stepMs, this.#crowdMs) : this.stepMs;
  }

  /** A step of as many requests as have slots. */
  #crowdOf(order: readonly PlannedRequest[]): number {
    const step = new StepSum(this.state.costs);
    for (const each of order.slice(0, this.terms.slots)) step.add(this.terms.exitOf(each, 0, step));
    return step.ms * this.#factor;
  }

  get lastAt(): number {
    return Math.max(this.#ahead.wallMs, this.#queue?.nextAt ?? 0) + this.#step.with(0) * this.#factor;
  }

  /** A row goes on beside the prompts ahead of it. */
  run(each: PlannedRequest): void {
    const exit = this.terms.exitOf(each, 0, this.#step);
    const steps = Math.max(each.guaranteedSteps(exit), this.#ahead.chunks);
    this.#note(each, exit, 0, this.#ahead.ms + each.prefillMs(exit) * this.#factor + steps * this.#paceOf(each));
  }

  /** A prompt begins behind those ahead of it, as soon as it has a slot. */
  prefill(each: PlannedRequest): void {
    const { exitOf, slots } = this.terms;
    const beginsAt = Math.max(this.#ahead.wallMs, each.isLive ? 0 : (this.#queue?.nextAt ?? 0));
    const exit = exitOf(each, beginsAt, this.#step);
    const ownMs = each.prefillMs(exit) * this.#factor;
    const chunks = each.chunks(exit);
    this.#move(each, -1);
    const takesMs = ownMs + chunks * this.stepMs;
    const endsAt = Math.max(beginsAt, this.#heldUntil(ownMs)) + takesMs;
    const { ms, wallMs } = this.#ahead;
    this.#ahead = { ms: ms + ownMs, chunks: this.#ahead.chunks + chunks, wallMs: wallMs + takesMs };
    if (!each.isLive) this.#queue?.take(ownMs);
    if (this.#rows < slots) this.#join(exit);
    const pace = this.#paceOf(each);
    this.#leaves(each, exit, endsAt, pace);
    this.#note(each, exit, endsAt + this.stepMs, endsAt + each.guaranteedSteps(exit) * pace);
  }

  /** Takes a prefill from the slack of the tightest promise. @returns when the promise lets it begin */
  #heldUntil(prefillMs: number): number {
    const { slackMs, readyAt } = this.#tight;
    const fits = prefillMs <= slackMs;
    this.#tight.slackMs = fits ? slackMs - prefillMs : Infinity;
    return fits ? 0 : readyAt;
  }

  #join(exit: ExitIndex): void {
    this.#step.add(exit);
    this.#rows += 1;
  }

  /** Adds a prompt to those behind, or takes it. */
  #move(each: PlannedRequest, sign: 1 | -1): void {
    this.#behind.ms += sign * each.prefillMs(each.currentExit) * this.#factor;
    this.#behind.chunks += sign * each.chunks(each.currentExit);
  }

  #leaves(each: PlannedRequest, exit: ExitIndex, from: number, stepMs: number): void {
    if (this.#queue === null) return;
    // A net ends behind its first sentence where others wait.
    const steps = Math.max(each.guaranteedSteps(exit), each.sequence.isNet ? 0 : each.meanLeft(exit));
    const endsAt = from + steps * stepMs;
    this.#queue.leaves(cutAt(each.sequence) < Infinity ? Math.min(each.end - this.state.now, endsAt) : endsAt);
  }

  #note(each: PlannedRequest, exit: ExitIndex, firstAt: number, readyAt: number): void {
    const leftMs = each.end - this.state.now;
    const { stepMs } = this;
    const slackMs = leftMs - readyAt;
    const isTightest = slackMs >= 0 && slackMs < this.#tight.slackMs;
    if (each.isPromised && leftMs < Infinity && isTightest) this.#tight = { slackMs, readyAt };
    const { ms, chunks } = this.#behind;
    const tokens = Math.max(1, Math.min(each.meanLeft(exit), (leftMs - firstAt) / stepMs));
    const tokenMs = stepMs + (chunks < 1 ? 0 : Math.min(ms / chunks, ms / tokens));
    this.fates.set(each, { exit, firstAt, readyAt, tokenMs, steps: (leftMs - firstAt) / tokenMs });
  }
}
