/**
 * The engine without a model: the scheduler's plans on a fake clock. A step's time comes from `actual` and not from the
 * scheduler's costs, so that plans can be tried on a machine that is slower, noisier or drifting.
 */
import type { Work } from '../../src/engine/scheduler/cost/model.js';
import { cutAt, type Ending, isKept, outcomeOf, timesOf } from '../../src/protocol/outcome.js';
import type { Admitted, ExitLayer } from '../../src/protocol/index.js';
import type { Scheduler } from '../../src/engine/scheduler/scheduler.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import type { RowPlan, StepPlan, TokenResult } from '../../src/engine/scheduler/step-plan.js';
import type { Rejected } from '../../src/engine/scheduler/types.js';
import type { Machine } from './machine.js';
import { END_TOKEN, engineRequest, type SimulatedRequest } from './simulated-request.js';

/** Tokens of a sentence where a request states none. */
const SENTENCE_TOKENS = 18;
/** A token of an answer's text. */
const TEXT_TOKEN = -1;

export interface Outcome {
  readonly request: SimulatedRequest;
  readonly admission: Admitted | Rejected;
  /** Null for a rejected request. */
  readonly firstTokenAt: number | null;
  readonly endedAt: number;
  /** Tokens in order, by exit layer. */
  readonly path: readonly { readonly exit: ExitLayer; readonly tokens: number }[];
  readonly tokens: number;
  readonly reason: 'length' | 'landed' | 'deadline' | 'rejected';
  readonly preemptions: number;
}

/** A running sequence behind a step. */
export interface LiveSequence {
  readonly id: string;
  readonly promptLength: number;
  readonly generated: number;
  readonly exit: ExitLayer;
}

/** One step. */
export interface SimulatedStep {
  readonly now: number;
  readonly ms: number;
  readonly work: Work;
  readonly plan: StepPlan;
  readonly live: readonly LiveSequence[];
}

/** A request that has no outcome yet. */
interface Open {
  readonly request: SimulatedRequest;
  readonly sequence: Sequence;
  admission: Admitted | Rejected | null;
  readonly path: { readonly exit: ExitLayer; tokens: number }[];
}

/** Of all runs: no two requests of a process share a prompt. */
let arrivals = 0;

class SimulatedEngine {
  now: number;
  readonly outcomes: Outcome[] = [];
  readonly #open = new Map<string, Open>();
  #next = 0;
  /** When all upstreams fail, so that all nets wake. */
  #failsAt: number;

  constructor(
    private readonly requests: readonly SimulatedRequest[],
    private readonly machine: Machine,
    readonly scheduler: Scheduler,
  ) {
    this.now = requests[0]?.arrivedAt ?? 0;
    this.#failsAt = machine.failsAt ?? Infinity;
  }

  get hasWork(): boolean {
    return this.#next < this.requests.length || !this.scheduler.isIdle || this.scheduler.nets.count > 0;
  }

  /** Runs one step. @returns its plan and its time */
  step(): { readonly plan: StepPlan; readonly ms: number } {
    this.#arrive();
    if (this.#failsAt <= this.now) {
      this.#failsAt = Infinity;
      for (const { id } of this.scheduler.nets.all) this.scheduler.nets.wake(id);
    }
    const plan = this.scheduler.schedule(this.now);
    this.#hear(plan);
    const ms = this.machine.actual(plan.work, this.now);
    this.now += ms;
    this.#cutLate();
    const tokens = plan.rows.flatMap((row) => this.#tokensOf(row, plan));
    const ended = this.scheduler.commit(plan, { at: this.now, cycleMs: ms, planningMs: 0, tokens, draft: null });
    for (const { id, hasLanded } of ended) this.#end(id, hasLanded === true ? 'landed' : 'length', this.now);
    return { plan, ms };
  }

  live(): LiveSequence[] {
    const { exits } = this.scheduler.options.shape;
    return this.scheduler.slots.running.map(({ id, promptLength, generated, exit }) => {
      return { id, promptLength, generated, exit: exits[exit]?.layer ?? 0 };
    });
  }

  #arrive(): void {
    const clients = this.machine.clients ?? null;
    const { isIdle, nets } = this.scheduler;
    const next = Math.min(this.requests[this.#next]?.arrivedAt ?? Infinity, nets.wakesAt, this.#failsAt);
    if (clients === null && isIdle && next < Infinity) this.now = Math.max(this.now, next);
    const free = (clients ?? Infinity) - this.#open.size;
    let arrived = 0;
    for (let each = this.requests[this.#next]; each !== undefined; each = this.requests[this.#next]) {
      if (clients === null ? each.arrivedAt > this.now : arrived >= free) break;
      const request = clients === null ? each : { ...each, arrivedAt: this.now };
      const sequence = this.scheduler.add(engineRequest(request, ++arrivals, this.scheduler.options.shape));
      this.#open.set(request.id, { request, sequence, admission: null, path: [] });
      this.#next += 1;
      arrived += 1;
    }
  }

  /** Notes the decisions of a plan. */
  #hear({ admitted, rejected, ended }: StepPlan): void {
    for (const { id, ...admission } of admitted) {
      const open = this.#open.get(id);
      if (open !== undefined) open.admission = { ...admission, kind: 'admit' };
    }
    for (const { id, leastFeasibleMs } of rejected) {
      const open = this.#open.get(id);
      if (open !== undefined) open.admission = { kind: 'reject', leastFeasibleMs };
      this.#end(id, 'rejected', this.now);
    }
    for (const { id, reason } of ended) if (reason === 'deadline') this.#end(id, 'deadline', this.now);
  }

  /** The gateway's timer ends answers whose deadline passed during a slow step (gateway/engine-client/open-sequences.ts). */
  #cutLate(): void {
    for (const open of [...this.#open.values()]) {
      const { sequence } = open;
      const endsAt = cutAt(sequence);
      if (endsAt >= this.now) continue;
      this.scheduler.cancel(sequence.id, 'deadline');
      const isDecided = open.admission !== null;
      if (!isDecided) open.admission = { kind: 'reject', leastFeasibleMs: null };
      this.#end(sequence.id, isDecided ? 'deadline' : 'rejected', endsAt);
    }
  }

  /** The token of a row, and the end behind it. An answer that its client has lost gets none. */
  #tokensOf({ id, exit, window }: RowPlan, { landing }: StepPlan): TokenResult[] {
    const open = this.#open.get(id);
    if (open === undefined) return [];
    const { request, sequence, path } = open;
    const exitLayer = this.scheduler.options.shape.exits[exit]?.layer ?? NaN;
    const part = path.at(-1);
    if (part?.exit === exitLayer) part.tokens++;
    else path.push({ exit: exitLayer, tokens: 1 });
    const generated = sequence.generated + 1;
    const mayEnd = generated % (request.sentenceTokens ?? SENTENCE_TOKENS) === 0;
    const token: TokenResult = { id, token: TEXT_TOKEN, isEnd: false, mayEnd };
    if (generated >= request.maxTokens) return [token];
    const end: TokenResult = { id, token: END_TOKEN, isEnd: true, mayEnd: null };
    if (generated >= (request.lengths[exit] ?? Infinity)) return [token, end];
    // The next sentence is likely to end too late.
    const lands = mayEnd && window !== null && this.now + window.sentenceTokens * landing.tokenMs > window.endsAt;
    return lands ? [token, { ...end, hasLanded: true }] : [token];
  }

  #end(id: string, reason: Outcome['reason'], at: number): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    this.#open.delete(id);
    const { request, sequence, admission, path } = open;
    if (admission === null) throw new Error(`request ${id} ended before it was admitted`);
    const { generated: tokens, preemptions } = sequence;
    const { firstTokenAt } = sequence;
    this.outcomes.push({ request, admission, firstTokenAt, endedAt: at, path, tokens, reason, preemptions });
  }
}

/**
 * Serves all requests (in order of arrival) to their end, and yields after every step.
 * @param scheduler of simulatedScheduler
 * @returns one outcome per request, in order of its end
 * @throws Error if a step makes no progress, which is a bug of the scheduler
 */
export function* simulate(
  requests: readonly SimulatedRequest[],
  machine: Machine,
  scheduler: Scheduler,
): Generator<SimulatedStep, Outcome[], void> {
  const engine = new SimulatedEngine(requests, machine, scheduler);
  let idleSteps = 0;
  while (engine.hasWork) {
    const { plan, ms } = engine.step();
    idleSteps = ms > 0 ? 0 : idleSteps + 1;
    const live = engine.live();
    if (idleSteps > 1 && live.length > 0)
      throw new Error(`no progress at ${engine.now} ms with ${live.length} live requests`);
    yield { now: engine.now, ms, work: plan.work, plan, live };
  }
  return engine.outcomes;
}

/** How a simulated answer ended. */
const ENDS: Readonly<Record<Outcome['reason'], Ending['end']>> = {
  length: 'whole',
  landed: 'landed',
  deadline: 'cut',
  rejected: 'refused',
};

/** Whether an answer is complete and inside its budget, by the clock of its client and the rule of reports. */
export function isMet({ request, firstTokenAt, endedAt, tokens, reason }: Outcome): boolean {
  const { arrivedAt, budget } = request;
  const times = timesOf({ arrivedAt, firstTokenAt: firstTokenAt ?? endedAt, endedAt, tokens });
  return isKept(outcomeOf({ end: ENDS[reason], isEmpty: firstTokenAt === null }, times, budget));
}

/** Whether the client may rely on the budget. */
export function isGuaranteed({ admission }: Outcome): boolean {
  return admission.kind === 'admit' && admission.serviceClass === 'guaranteed';
}
