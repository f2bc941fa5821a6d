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
  type EngineState,
  type Landing,
  type Policy,
  type Priors,
  Router,
  type SequenceView,
  type StepHost,
} from '../../router/index.js';
import type { ExitIndex, ExitLayer } from '../protocol.js';
import { landingPlan } from '../landing-plan.js';
import type { Sequence } from '../sequence.js';

/** The engine at the beginning of a step. */
export interface StepContext {
  /** Most live sequences. */
  readonly slots: number;
  readonly live: readonly Sequence[];
  readonly waiting: readonly Sequence[];
  readonly now: number;
  /** Tokens within which nine of ten sentences end. */
  readonly sentenceTokens: number;
  /** Positions that the KV cache holds for live sequences. */
  readonly kvPositions: number;
}

export class RouterAdapter {
  readonly #router: Router;

  constructor(
    readonly shape: DepthShape,
    table: CostTable,
    policy: Policy,
    priors?: Priors,
    slowdown = 1,
  ) {
    this.#router = new Router(shape, table, policy, priors, slowdown);
  }

  /** Makes the decisions of a step, in order, on the engine behind the host. */
  step(host: StepHost): void {
    this.#router.step(host);
  }

  /** Decides requests that have no place in a step: dry runs, and budgets that end before a grammar is compiled. */
  admit(arrived: readonly Sequence[], context: StepContext): Admission[] {
    return this.#router.admit(
      arrived.map((sequence) => this.view(sequence)),
      this.state(context),
    );
  }

  /** Milliseconds that a request would wait if it arrived now, with every request at its shallowest exit. */
  predictedWaitMs(context: StepContext): number {
    return this.#router.predictedWaitMs(this.state(context));
  }

  /** Whether a sequence is cut at its deadline, which falls into a step. @param work the step that is about to run */
  isOverdue(sequence: Sequence, now: number, work: Work): boolean {
    return this.#router.isOverdue(this.view(sequence), now, work);
  }

  /** When an answer ends early; null where its budget or its text allows no landing. */
  landing(sequence: Sequence): Landing | null {
    if (sequence.request.depth.budget?.totalMs == null) return null;
    return this.#router.landing(this.view(sequence));
  }

  /** Work of advancing a sequence to position `end` at its exit. */
  advanceWork(sequence: Sequence, end: number): Work['prefill'] {
    return this.#router.advanceWork(this.view(sequence).frontier, sequence.exit, end);
  }

  /** Learns from a finished step. */
  observeStep(work: Work, actualMs: number): void {
    this.#router.observeStep(work, actualMs);
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
    this.#router.observeEnd(this.view(sequence), admission, { firstTokenAt, endedAt, path, reason });
  }

  state({ live, waiting, slots, now, sentenceTokens, kvPositions }: StepContext): EngineState {
    return {
      now,
      slots,
      sentenceTokens,
      kvPositions,
      live: live.map((sequence) => this.view(sequence)),
      waiting: waiting.map((sequence) => this.view(sequence)),
    };
  }

  /**
   * A sequence as plain data, with or without a slot. Built field by field: a spread object is slow to create and slow to
   * read, and took half of the planning time.
   */
  view(sequence: Sequence): SequenceView {
    const { request, admission } = sequence;
    const { minExit, maxExit, budget, openExit, quality } = request.depth;
    const frontier = this.#frontier((unit) => sequence.frontier(unit));
    const mayEnd = request.stopTokens.length > 0 || (request.grammar?.kind ?? 'free') !== 'free';
    return {
      id: sequence.id,
      arrivedAt: request.arrivedAt,
      promptLength: sequence.promptLength,
      generated: sequence.generated,
      maxTokens: request.maxTokens,
      isExactLength: !mayEnd,
      lands: landingPlan(request) === 'possible',
      sentenceTokens: sequence.text.tokens,
      lengthGroup: request.lengthGroup,
      tenant: request.tenant ?? '',
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
      ...(request.isDryRun === true && { isDryRun: true }),
    };
  }

  #layer(exit: ExitIndex): ExitLayer {
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
