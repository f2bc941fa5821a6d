/**
 * The engine without a model: runs requests in steps on a fake clock, with the router's own planning.
 *
 * The steps' times come from `actual` and not from the planning cost model, so that planning can be tried on a machine
 * that is slower, noisier or drifting.
 */
import { type CostModel, type Work } from '../cost/model.js';
import { cutAt } from '../protocol/early-end.js';
import {
  type Admission,
  type Decided,
  type EngineState,
  type Policy,
  type Router,
  type Service,
  type StepHost,
  type StepPlan as RouterPlan,
} from '../scheduler/router.js';
import {
  type LiveRequest,
  type SimulatedRequest,
  type StepParts,
  type StepPlan,
  isDone,
  isPrefilling,
  planStep,
  start,
} from './request.js';
import { type Room, fill, preempt } from './slots.js';

/** The part of the router that a simulated engine calls, as the real engine does. */
export type RouterFacade = Pick<Router, 'step' | 'landing' | 'observeStep' | 'observeEnd'>;

export interface Machine extends Room {
  /** Time in ms that a client waits outside the engine; added to every reported time. Default: 0. */
  readonly overheadMs?: number;
  /** Clients that never pause: a request arrives when one of them is free. Absent or null: at its own time. */
  readonly clients?: number | null;
  /** Real time of a step in ms, from its work and the current time. */
  readonly actual: (work: Work, now: number) => number;
}

export interface Outcome {
  readonly request: SimulatedRequest;
  readonly admission: Admission;
  /** Null for a rejected request. */
  readonly firstTokenAt: number | null;
  readonly endedAt: number;
  /** Tokens in order, by exit layer. */
  readonly path: LiveRequest['path'];
  readonly tokens: number;
  readonly reason: 'length' | 'landed' | 'deadline' | 'rejected';
  readonly preemptions: number;
}

const NO_WORK: Work = { decode: null, prefill: [] };

/** Tokens within which nine of ten real sentences end. */
const LONG_SENTENCE_TOKENS = 24;

/** Whether an answer ends at the end of this sentence: the next one is likely to end too late. */
function hasLanded(each: LiveRequest, router: RouterFacade, now: number): boolean {
  if (each.generated === 0 || each.sentenceTokens !== 0 || isPrefilling(each)) return false;
  const landing = router.landing(each);
  return landing !== null && now + LONG_SENTENCE_TOKENS * landing.tokenMs > landing.endsAt;
}

/** One step, for observers (tests, progress). */
export interface SimulatedStep {
  readonly now: number;
  readonly ms: number;
  readonly work: Work;
  readonly live: readonly LiveRequest[];
  readonly waiting: number;
  /** The outcomes so far. The array grows with the run. */
  readonly outcomes: readonly Outcome[];
}

/** The engine's side of the router's step: requests with slots, waiting ones, and arrivals. */
class SimulatedEngine implements StepHost {
  now: number;
  live: LiveRequest[] = [];
  waiting: LiveRequest[] = [];
  /** The parts of the step that the router chose. */
  selected: StepParts = { paused: new Set(), chunks: [] };
  readonly outcomes: Outcome[] = [];
  readonly #admissions = new Map<string, Admission>();
  #next = 0;
  #deciding: LiveRequest[] = [];

  constructor(
    private readonly requests: readonly SimulatedRequest[],
    private readonly machine: Machine,
    private readonly router: RouterFacade,
    private readonly costs: CostModel,
    private readonly policy: Policy,
  ) {
    this.now = requests[0]?.arrivedAt ?? 0;
  }

  get isIdle(): boolean {
    return this.waiting.length + this.live.length === 0;
  }

  get hasWork(): boolean {
    return this.#next < this.requests.length || !this.isIdle;
  }

  state(): EngineState {
    const { now, live, waiting } = this;
    const { slots, kvPositions } = this.machine;
    return { now, slots, live, waiting, sentenceTokens: LONG_SENTENCE_TOKENS, kvPositions };
  }

  arrivals(): readonly LiveRequest[] {
    const clients = this.machine.clients ?? null;
    if (clients === null && this.isIdle)
      this.now = Math.max(this.now, this.requests[this.#next]?.arrivedAt ?? this.now);
    const free = (clients ?? Infinity) - this.waiting.length - this.live.length;
    const arrived: LiveRequest[] = [];
    for (let each = this.requests[this.#next]; each !== undefined; each = this.requests[this.#next]) {
      if (clients === null ? each.arrivedAt > this.now : arrived.length >= free) break;
      this.#next += 1;
      arrived.push(start(clients === null ? each : { ...each, arrivedAt: this.now }, this.costs.shape));
    }
    return (this.#deciding = arrived);
  }

  decide(admissions: readonly Admission[]): Decided {
    const queued: LiveRequest[] = [];
    for (const [i, each] of this.#deciding.entries()) {
      const admission = admissions[i];
      if (admission === undefined) throw new Error(`request ${each.id} has no admission`);
      this.#admissions.set(each.id, admission);
      if (admission.kind === 'admit')
        queued.push({ ...each, exit: admission.exit, serviceClass: admission.serviceClass });
      else this.end(each, 'rejected');
    }
    this.waiting.push(...queued);
    return { queued, next: [] };
  }

  endDue(): void {
    // No client cancels.
  }

  start({ order, kept }: Service): void {
    const byId = new Map(this.waiting.map((each) => [each.id, each]));
    const ordered = order.flatMap((id) => byId.get(id) ?? []);
    ({ live: this.live, waiting: this.waiting } = fill(this.live, ordered, kept, this.machine));
  }

  apply(changes: RouterPlan['exits']): void {
    const exits = new Map(changes.map(({ id, exit }) => [id, exit]));
    const room = preempt(
      this.live.map((each) => {
        const exit = exits.get(each.id);
        return exit === undefined ? each : { ...each, exit };
      }),
      this.machine,
    );
    this.live = room.live;
    this.waiting.unshift(...room.preempted);
  }

  select({ paused, chunks }: RouterPlan): Work {
    this.selected = { paused: new Set(paused), chunks };
    return this.step().work;
  }

  step(): StepPlan {
    return planStep(this.live, this.selected, this.costs, this.policy);
  }

  endOverdue(ids: readonly string[]): void {
    this.endAll('deadline', ({ id }) => ids.includes(id));
  }

  /** Ends all requests of which something holds. @param endedAt by the engine's clock */
  endAll(
    reason: Outcome['reason'],
    ends: (each: LiveRequest) => boolean,
    endedAt: (each: LiveRequest) => number = () => this.now,
  ): void {
    const ended = [...this.live, ...this.waiting].filter(ends);
    for (const each of ended) this.end(each, reason, endedAt(each));
    this.live = this.live.filter((each) => !ended.includes(each));
    this.waiting = this.waiting.filter((each) => !ended.includes(each));
  }

  end(each: LiveRequest, reason: Outcome['reason'], at = this.now): void {
    const admission = this.#admissions.get(each.id);
    if (admission === undefined) throw new Error(`request ${each.id} ended before it was admitted`);
    const { request, path, generated: tokens, preemptions } = each;
    const { overheadMs = 0 } = this.machine;
    const firstTokenAt = each.firstTokenAt === null ? null : each.firstTokenAt + overheadMs;
    const endedAt = at + overheadMs;
    this.outcomes.push({ request, admission, firstTokenAt, endedAt, path, tokens, reason, preemptions });
    if (reason === 'rejected') return;
    const how = reason === 'length' ? 'ended' : reason;
    this.router.observeEnd(each, at, how);
  }
}

/**
 * Serves all requests (in order of arrival) to their end, and yields after every step.
 * @param requests may grow while `isOpen` says so
 * @param costs step times by the machine's table
 * @returns one outcome per request, in order of its end
 * @throws Error if a step makes no progress, which is a bug of the router
 */
export function* simulate(
  requests: readonly SimulatedRequest[],
  machine: Machine,
  router: RouterFacade,
  costs: CostModel,
  policy: Policy,
  isOpen = (): boolean => false,
): Generator<SimulatedStep, Outcome[], void> {
  const engine = new SimulatedEngine(requests, machine, router, costs, policy);
  const { outcomes } = engine;
  const overheadMs = machine.overheadMs ?? 0;
  let idleSteps = 0;
  while (engine.hasWork || isOpen()) {
    if (!engine.hasWork) {
      yield { now: engine.now, ms: 0, work: NO_WORK, live: [], waiting: 0, outcomes };
      continue;
    }
    router.step(engine);
    const { work, advance } = engine.step();
    const ms = machine.actual(work, engine.now);
    idleSteps = ms > 0 ? 0 : idleSteps + 1;
    if (idleSteps > 1 && engine.live.length > 0) {
      throw new Error(`no progress at ${engine.now} ms with ${engine.live.length} live requests`);
    }
    engine.now += ms;
    router.observeStep(work, ms);
    // The gateway's timer ends answers whose deadline passed during a slow step (engine-client/deadline-timer.ts).
    const endsAt = (each: LiveRequest): number => cutAt(each) - overheadMs;
    engine.endAll('deadline', (each) => endsAt(each) < engine.now, endsAt);
    engine.live = advance(engine.live, engine.now);
    engine.endAll('length', isDone);
    engine.endAll('landed', (each) => hasLanded(each, router, engine.now));
    yield { now: engine.now, ms, work, live: engine.live, waiting: engine.waiting.length, outcomes };
  }
  return outcomes;
}
