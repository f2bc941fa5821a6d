/**
 * The engine's side of the router: turns sequences into plain data, keeps the learnt cost and length models.
 *
 * Knows: sequences and the router's functions. Must not know: slots' memory, sampling.
 */
import {
  type Admission,
  admitAll,
  advanceWork,
  type Chunk,
  chooseChunk,
  correct,
  type CostModel,
  costModel,
  type DepthPlan,
  type DepthShape,
  FORESEEN,
  frontierAt,
  isOverdue,
  type Learned,
  nothingLearned,
  observeEnd,
  observeRequest,
  order,
  planAsIs,
  type Policy,
  predictMs,
  type Replan,
  replan,
  rest,
  type RouterState,
  type SequenceState,
  type Work,
} from '../router/planner.js';
import type { CostTable } from '../router/cost.js';
import type { Sequence } from './sequence.js';

/** What the engine tells of itself beside its sequences. */
export interface EngineRoom {
  readonly slots: number;
  /** Positions that the KV budget still holds at full depth. */
  readonly kvRoom: number;
}

/**
 * A plan holds for one step, and for one more with each so many sequences: planning grows faster than a step does,
 * and what one step changes matters less to many.
 */
const LARGE = 24;

/** Ids of those whose prompts lack more than the last position. */
function promptsOf(live: readonly Sequence[]): Set<string> {
  const ids = new Set<string>();
  for (const { id, slot, tokens } of live) if ((slot?.length ?? 0) < tokens.length - 1) ids.add(id);
  return ids;
}

/** For how many steps a plan of that many sequences holds. */
function planSteps(live: number, waiting: number): number {
  return 1 + Math.floor((live + Math.min(FORESEEN, waiting)) / LARGE);
}

export class Planning {
  #costs: CostModel;
  #learned: Learned = nothingLearned;
  /** When the engine last did something, or was last found idle; null before. */
  #busyAt: number | null = null;
  /** The last plan, who rests by it, and for how many steps it still holds. */
  #held: {
    readonly plan: DepthPlan;
    readonly paused: readonly string[];
    /** Ids of the live ones that it was made for. */
    readonly known: ReadonlySet<string>;
    left: number;
  } | null = null;

  constructor(
    readonly shape: DepthShape,
    table: CostTable,
    private readonly policy: Policy,
    slowdown = 1,
  ) {
    this.#costs = costModel(table, shape, slowdown);
  }

  /** Admits what arrived since the last step. What is taken is learnt of by `arrived`: no plan leaves time for what isn't. */
  admit(
    arrived: readonly Sequence[],
    live: readonly Sequence[],
    waiting: readonly Sequence[],
    room: EngineRoom,
    now: number,
  ): Admission[] {
    if (live.length === 0 && waiting.length === 0) {
      this.#costs = rest(this.#costs, now - (this.#busyAt ?? now));
      this.#busyAt = now;
    }
    const requests = arrived.map((sequence) => this.#plain(sequence));
    return admitAll(requests, this.#state(live, waiting, room, now), this.#costs, this.policy);
  }

  /** Learns of a request that was admitted and has its place in the queue. */
  arrived(sequence: Sequence, now: number): void {
    this.#learned = observeRequest(this.#learned, this.#plain(sequence), now);
  }

  /** The waiting in order of service. */
  order(live: readonly Sequence[], waiting: readonly Sequence[], room: EngineRoom, now: number): Sequence[] {
    if (waiting.length < 2) return [...waiting];
    const byId = new Map(waiting.map((sequence) => [sequence.id, sequence]));
    const state = this.#state(live, waiting, room, now);
    return order(state.waiting, state, this.#costs, this.policy).flatMap(({ id }) => byId.get(id) ?? []);
  }

  /** Without budgets there is nothing to weigh: everybody goes as deep as it may. That saves 0.3 ms a step. */
  replan(live: readonly Sequence[], waiting: readonly Sequence[], room: EngineRoom, now: number): Replan {
    this.#busyAt = now;
    const unbound = [...live, ...waiting].every(({ request }) => request.depth.budget === null);
    if (unbound && !this.policy.shedDepth) {
      this.#held = null;
      return { exits: live.map(({ id, request }) => ({ id, exit: request.depth.maxExit })), paused: [] };
    }
    if (this.#held !== null && this.#held.left > 0 && this.#isKnown(promptsOf(live))) {
      this.#held.left -= 1;
      return { exits: [], paused: this.#held.paused };
    }
    const state = this.#state(live, waiting, room, now);
    const { exits, paused, plan } = replan(state.live, state, this.#costs, this.policy);
    const known = new Set(live.map(({ id }) => id));
    this.#held = { plan, paused, known, left: planSteps(live.length, waiting.length) - 1 };
    return { exits, paused };
  }

  /** @param paused ids of those that the last plan lets rest */
  chunk(
    live: readonly Sequence[],
    waiting: readonly Sequence[],
    room: EngineRoom,
    now: number,
    paused: ReadonlySet<string>,
  ): Chunk | null {
    const prompts = promptsOf(live);
    const plan =
      this.#held !== null && this.#isKnown(prompts)
        ? this.#held.plan
        : planAsIs(this.#state(live, waiting, room, now), this.#costs, this.policy);
    // Who gave its slot back, and who has its prompt behind it since the plan was made, is passed over.
    const holders = new Set(live.map(({ id }) => id));
    return chooseChunk(plan, paused, ({ prefilling, request: { id } }) => (prefilling ? prompts : holders).has(id));
  }

  /** Whether the plan that is held counts on all of these. */
  #isKnown(ids: ReadonlySet<string>): boolean {
    for (const id of ids) if (this.#held?.known.has(id) !== true) return false;
    return true;
  }

  /** @param work the step that is about to run */
  isOverdue(sequence: Sequence, now: number, work: Work): boolean {
    if (sequence.request.depth.budget?.onMiss !== 'truncate') return false;
    return isOverdue(this.#plain(sequence), now, this.predictMs(work), this.policy);
  }

  /** What advancing a sequence to a position at its exit will run. */
  advanceWork(sequence: Sequence, end: number): Work['prefill'] {
    const { frontier } = this.#plain(sequence);
    const start = frontierAt(frontier, sequence.exit, this.#costs);
    return advanceWork(frontier, sequence.exit, end, this.#costs, Math.max(1, end - start));
  }

  /** Learns from a finished step. @param waited whether it kept anybody else from going on */
  stepDone(work: Work, actualMs: number, waited = false): void {
    this.#costs = correct(this.#costs, work, actualMs, waited);
  }

  predictMs(work: Work): number {
    return predictMs(this.#costs, work);
  }

  /** How many times slower the machine is now than when the table was measured. */
  get slowdown(): number {
    return this.#costs.correction.speed;
  }

  /** Learns from an answer that ended. @param whole false where it was cut at its deadline */
  answerDone(sequence: Sequence, endedAt: number, whole: boolean): void {
    const { admission, firstTokenAt, generated: tokens } = sequence;
    if (admission === null) return;
    const end = { firstTokenAt, endedAt, tokens, whole };
    this.#learned = observeEnd(this.#learned, this.#plain(sequence), admission, end, this.policy);
  }

  #state(live: readonly Sequence[], waiting: readonly Sequence[], room: EngineRoom, now: number): RouterState {
    return {
      now,
      slots: room.slots,
      kvRoom: room.kvRoom,
      live: live.map((sequence) => this.#plain(sequence)),
      waiting: waiting.map((sequence) => this.#plain(sequence)),
      learned: this.#learned,
    };
  }

  /**
   * A sequence as plain data, whether it holds a slot or not. Field by field: an object that is spread from another one
   * is slow to make and slow to read, and plans read little else (half of their time, measured).
   */
  #plain(sequence: Sequence): SequenceState {
    const { request, admission } = sequence;
    const { minExit, maxExit, budget } = request.depth;
    const frontier = this.#frontier((unit) => sequence.frontier(unit));
    const isLed = sequence.leader !== null;
    return {
      id: sequence.id,
      arrivedAt: request.arrivedAt,
      promptLength: sequence.promptLength,
      generated: sequence.generated,
      maxTokens: request.maxTokens,
      promised: admission?.kind !== 'admit' || admission.bound,
      told: admission?.kind !== 'admit' || admission.feasible,
      exit: this.shape.exits[sequence.exit]?.layer ?? 0,
      minExit,
      maxExit,
      budget,
      frontier,
      expected: isLed ? this.#frontier((unit) => sequence.expected(unit)) : frontier,
      firstTokenAt: sequence.firstTokenAt,
      lastTokenAt: sequence.lastTokenAt,
      tokensAtExit: sequence.tokensAtExit,
    };
  }

  /** Positions by stage, then by exit (SequenceState). */
  #frontier(at: (unit: number) => number): number[] {
    const { stages, exits } = this.shape;
    const frontier: number[] = [];
    for (let stage = 0; stage < stages.length; stage++) frontier.push(at(stage));
    let block = stages.length;
    for (const exit of exits) frontier.push(exit.block === null ? 0 : at(block++));
    return frontier;
  }
}
