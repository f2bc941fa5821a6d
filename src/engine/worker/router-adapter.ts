/**
 * The engine's side of the router: maps sequences to plain data, and the router's answers to the engine's types.
 *
 * Must not know: slots' memory, sampling.
 */
import type { DepthShape, Work } from '../../cost/model.js';
import type { CostTable } from '../../cost/table.js';
import {
  type Admission,
  type AnswerEnd,
  type DepthPlan,
  type EngineState,
  isPastBudget,
  type Landing,
  type LengthPrior,
  type Policy,
  type PrefillChunk,
  Router,
  type SequenceView,
  type StepSummary,
} from '../../router/index.js';
import type { SentenceTokens } from '../landing/sentence-tokens.js';
import type { ExitIndex } from '../protocol.js';
import { isCutAtDeadline } from '../landing-plan.js';
import type { Sequence } from '../sequence.js';

const FREE = { kind: 'free' } as const;

/** The engine at the beginning of a step. */
export interface StepContext {
  /** Most live sequences. */
  readonly slots: number;
  readonly live: readonly Sequence[];
  readonly waiting: readonly Sequence[];
  readonly now: number;
  /** Learnt lengths of sentences; absent in tests of plans alone. */
  readonly sentenceTokens?: SentenceTokens;
}

export class RouterAdapter {
  readonly #router: Router;
  readonly #policy: Policy;

  constructor(
    readonly shape: DepthShape,
    table: CostTable,
    policy: Policy,
    lengthPrior: LengthPrior | null = null,
    slowdown = 1,
  ) {
    this.#policy = policy;
    this.#router = new Router(shape, table, policy, lengthPrior, slowdown);
  }

  /** Admits requests that arrived since the last step. The caller reports admitted ones with `enqueued`. */
  admit(arrived: readonly Sequence[], context: StepContext): Admission[] {
    return this.#router.admit(
      arrived.map((sequence) => this.#view(sequence)),
      this.#state(context),
    );
  }

  /** Milliseconds that a request would wait if it arrived now, with every request at its shallowest exit. */
  predictedWaitMs(context: StepContext): number {
    return this.#router.predictedWaitMs(this.#state(context));
  }

  /** Reports an admitted request that has its place in the queue; until then, plans leave no time for it. */
  enqueued(sequence: Sequence, now: number): void {
    this.#router.enqueued(this.#view(sequence), now);
  }

  /** The waiting sequences in order of service. */
  order(context: StepContext): Sequence[] {
    const { waiting } = context;
    if (waiting.length === 0) return [];
    const byId = new Map(waiting.map((sequence) => [sequence.id, sequence]));
    return this.#router.order(this.#state(context)).flatMap(({ id }) => byId.get(id) ?? []);
  }

  /** Whether the total budget of a sequence is over. */
  isPastBudget({ request }: Sequence, now: number): boolean {
    return isPastBudget({ budget: request.depth.budget, arrivedAt: request.arrivedAt }, now, this.#policy);
  }

  /** Exits and pauses of the next step. */
  planStep(context: StepContext): DepthPlan {
    return this.#router.planStep(summaryOf(context), () => this.#state(context));
  }

  /** @param paused ids of the sequences that skip the step */
  choosePrefill(context: StepContext, paused: ReadonlySet<string>): PrefillChunk[] {
    return this.#router.choosePrefill(summaryOf(context), paused, () => this.#state(context));
  }

  /** Whether a sequence is cut at its deadline, which falls into a step. @param work the step that is about to run */
  isOverdue(sequence: Sequence, now: number, work: Work): boolean {
    if (!isCutAtDeadline(sequence.request)) return false;
    return this.#router.isOverdue(this.#view(sequence), now, work);
  }

  /** When an answer ends early; null where its budget asks for no landing. @param stepMs the next step, predicted */
  landing(sequence: Sequence, stepMs: number): Landing | null {
    return this.#router.landing(this.#view(sequence), stepMs);
  }

  /** Work of advancing a sequence to position `end` at its exit. */
  advanceWork(sequence: Sequence, end: number): Work['prefill'] {
    return this.#router.advanceWork(this.#view(sequence).frontier, sequence.exit, end);
  }

  /** Learns from a finished step. @param isContended whether another sequence waited for it */
  observeStep(work: Work, actualMs: number, isContended = false): void {
    this.#router.observeStep(work, actualMs, isContended);
  }

  predictMs(work: Work): number {
    return this.#router.predictMs(work);
  }

  /** How many times slower the machine is now than at calibration. */
  get slowdown(): number {
    return this.#router.slowdown;
  }

  /** Learns from an answer that ended. */
  observeEnd(sequence: Sequence, endedAt: number, reason: AnswerEnd['reason']): void {
    const { admission, firstTokenAt } = sequence;
    const path = sequence.path.map(({ exit, tokens }) => ({ exit: this.#layer(exit), tokens }));
    this.#router.observeEnd(this.#view(sequence), admission, { firstTokenAt, endedAt, path, reason });
  }

  #state({ live, waiting, slots, now }: StepContext): EngineState {
    return {
      now,
      slots,
      live: live.map((sequence) => this.#view(sequence)),
      waiting: waiting.map((sequence) => this.#view(sequence)),
    };
  }

  /**
   * A sequence as plain data, with or without a slot. Built field by field: a spread object is slow to create and slow to
   * read, and took half of the planning time.
   */
  #view(sequence: Sequence): SequenceView {
    const { request, admission } = sequence;
    const { minExit, maxExit, budget, openExit, quality } = request.depth;
    const frontier = this.#frontier((unit) => sequence.frontier(unit));
    const mayEnd = request.stopTokens.length > 0 || (request.grammar ?? FREE).kind !== 'free';
    return {
      id: sequence.id,
      arrivedAt: request.arrivedAt,
      promptLength: sequence.promptLength,
      generated: sequence.generated,
      maxTokens: request.maxTokens,
      isExactLength: !mayEnd,
      lengthGroup: request.lengthGroup,
      serviceClass: admission?.kind === 'admit' ? admission.serviceClass : 'guaranteed',
      exit: this.#layer(sequence.exit),
      minExit,
      // While it thinks, the rest of the answer is planned at the exits of the thoughts.
      maxExit: Math.min(maxExit, sequence.thinkingExit ?? maxExit),
      budget,
      ...(openExit !== undefined && { openExit }),
      ...(quality && { quality }),
      frontier,
      expectedFrontier: sequence.leader === null ? frontier : this.#frontier((unit) => sequence.expectedFrontier(unit)),
      firstTokenAt: sequence.firstTokenAt,
      lastTokenAt: sequence.lastTokenAt,
    };
  }

  #layer(exit: ExitIndex): number {
    const layer = this.shape.exits[exit]?.layer;
    if (layer === undefined) throw new RangeError(`no exit ${exit} of ${this.shape.exits.length}`);
    return layer;
  }

  /** Positions by stage, then by exit (RequestView). */
  #frontier(at: (unit: number) => number): number[] {
    const { stages, exits } = this.shape;
    const frontier: number[] = [];
    for (let stage = 0; stage < stages.length; stage++) frontier.push(at(stage));
    let block = stages.length;
    for (const exit of exits) frontier.push(exit.block === null ? 0 : at(block++));
    return frontier;
  }
}

function summaryOf({ live, waiting, now }: StepContext): StepSummary {
  const promptIds = new Set<string>();
  for (const { id, slot, tokens } of live) if ((slot?.length ?? 0) < tokens.length - 1) promptIds.add(id);
  const hasBudget = ({ request }: Sequence): boolean => request.depth.budget !== null;
  return {
    now,
    liveIds: live.map(({ id }) => id),
    promptIds,
    waiting: waiting.length,
    hasBudgets: live.some(hasBudget) || waiting.some(hasBudget),
  };
}
