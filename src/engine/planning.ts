/**
 * The engine's side of the router: turns sequences into plain data, keeps the learnt cost and length models.
 *
 * Knows: sequences and the router's functions. Must not know: slots' memory, sampling.
 */
import {
  type Admission,
  admit,
  advanceWork,
  type Chunk,
  chooseChunk,
  correct,
  type CostModel,
  costModel,
  type DepthPlan,
  type DepthShape,
  isOverdue,
  nextStep,
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
  type RouterState,
  type SequenceState,
  type WaitingRequest,
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

/** Live sequences from which on a plan holds for two steps: planning grows faster than a step does. */
const LARGE = 24;

export class Planning {
  #costs: CostModel;
  #learned: Learned = nothingLearned;
  /** What the last plan was for, and who rests by it. */
  #planned: { readonly batch: string; readonly paused: readonly string[] } = { batch: '', paused: [] };

  /** The plan of the last step that had one. */
  #plan: DepthPlan | null = null;

  constructor(
    readonly shape: DepthShape,
    table: CostTable,
    private readonly policy: Policy,
  ) {
    this.#costs = costModel(table, shape);
  }

  admit(
    sequence: Sequence,
    live: readonly Sequence[],
    waiting: readonly Sequence[],
    room: EngineRoom,
    now: number,
  ): Admission {
    const request = this.#waiting(sequence);
    this.#learned = observeRequest(this.#learned, request, now);
    return admit(request, this.#state(live, waiting, room, now), this.#costs, this.policy);
  }

  /** The waiting in order of service. */
  order(waiting: readonly Sequence[], now: number): Sequence[] {
    const byId = new Map(waiting.map((sequence) => [sequence.id, sequence]));
    const requests = waiting.map((sequence) => this.#waiting(sequence));
    return order(requests, now, this.#learned.lengths, this.#costs, this.policy).flatMap(
      ({ id }) => byId.get(id) ?? [],
    );
  }

  /** Without budgets there is nothing to weigh: everybody goes as deep as it may. That saves 0.3 ms a step. */
  replan(live: readonly Sequence[], waiting: readonly Sequence[], room: EngineRoom, now: number): Replan {
    const unbound = [...live, ...waiting].every(({ request }) => request.depth.budget === null);
    if (unbound && !this.policy.shedDepth)
      return { exits: live.map(({ id, request }) => ({ id, exit: request.depth.maxExit })), paused: [] };
    // A large batch in which nobody came, ended or began to decode has the plan of the step before, every other time.
    const batch = [...live, ...waiting].map(({ id, generated }) => `${id}${generated > 0 ? '+' : '-'}`).join();
    if (live.length >= LARGE && batch === this.#planned.batch) {
      const { paused } = this.#planned;
      this.#planned = { batch: '', paused };
      return { exits: [], paused };
    }
    const state = this.#state(live, waiting, room, now);
    const planned = replan(state.live, state, this.#costs, this.policy);
    this.#planned = { batch, paused: planned.paused };
    this.#plan = planned.plan;
    return planned;
  }

  /** @param paused ids of those that the last plan lets rest */
  chunk(
    live: readonly Sequence[],
    waiting: readonly Sequence[],
    room: EngineRoom,
    now: number,
    paused: ReadonlySet<string>,
  ): Chunk | null {
    const plan =
      this.#plan?.batch.state.now === now
        ? this.#plan
        : planAsIs(this.#state(live, waiting, room, now), this.#costs, this.policy);
    const holders = new Set(live.map(({ id }) => id));
    return chooseChunk(plan, paused, (id) => holders.has(id));
  }

  /** @param work the step that is about to run */
  isOverdue(sequence: Sequence, now: number, work: Work): boolean {
    if (sequence.request.depth.budget?.onMiss !== 'truncate') return false;
    return isOverdue(this.#waiting(sequence), now, nextStep(work, this.#costs), this.policy);
  }

  /** What advancing a sequence to a position at its exit will run. */
  advanceWork(sequence: Sequence, end: number): Work['prefill'] {
    const { frontier } = this.#live(sequence);
    const start = Math.min(...frontier.slice(0, (this.shape.exits[sequence.exit]?.stage ?? 0) + 1));
    return advanceWork(frontier, sequence.exit, end, this.#costs, Math.max(1, end - start));
  }

  /** Learns from a finished step. */
  stepDone(work: Work, actualMs: number): void {
    this.#costs = correct(this.#costs, work, actualMs);
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
    this.#learned = observeEnd(this.#learned, this.#waiting(sequence), admission, end, this.policy);
  }

  #state(live: readonly Sequence[], waiting: readonly Sequence[], room: EngineRoom, now: number): RouterState {
    return {
      now,
      slots: room.slots,
      kvRoom: room.kvRoom,
      live: live.map((sequence) => this.#live(sequence)),
      waiting: waiting.map((sequence) => this.#waiting(sequence)),
      learned: this.#learned,
    };
  }

  #waiting(sequence: Sequence): WaitingRequest {
    const { request, id, generated, promptLength, exit } = sequence;
    return {
      id,
      arrivedAt: request.arrivedAt,
      promptLength,
      generated,
      maxTokens: request.maxTokens,
      promised: sequence.admission?.kind !== 'admit' || sequence.admission.bound,
      exit: this.shape.exits[exit]?.layer ?? 0,
      ...request.depth,
    };
  }

  #live(sequence: Sequence): SequenceState {
    const frontiers = sequence.slot?.frontiers ?? new Int32Array(0);
    const trunk = this.shape.stages.length;
    let block = trunk;
    return {
      ...this.#waiting(sequence),
      frontier: [
        ...frontiers.subarray(0, trunk),
        ...this.shape.exits.map((exit) => (exit.block === null ? 0 : (frontiers[block++] ?? 0))),
      ],
      firstTokenAt: sequence.firstTokenAt,
      lastTokenAt: sequence.lastTokenAt,
      tokensAtExit: sequence.tokensAtExit,
    };
  }
}
