/**
 * One request in planning units: deadlines as instants, prefill as milliseconds and the rest of the answer as tokens,
 * at each exit.
 *
 * The utility of an answer: the share of full depth's right answers that its exit gives (accuracy), times the share
 * that an early end keeps (partial value).
 *
 * Knows: one sequence, the moment of planning. Must not know: other sequences.
 */
import type { CostModel, ExitIndex, DepthShape } from './cost/model.js';
import { at } from '../../util/at.js';
import { advanceMs, frontierAt, promptMs } from './cost/step-costs.js';
import { type LengthDistribution, type OutputLengths, type SentenceLength, sentenceWithin } from './output-length.js';
import type { Policy } from './policy.js';
import type { Sequence, Terms } from './sequence.js';
import { interpolated, accuracyBehind } from '../model/manifest.js';

/** The estimates of every plan. */
export interface Estimates {
  readonly model: CostModel;
  readonly policy: Policy;
  readonly lengths: OutputLengths;
  readonly utility: Utility;
  readonly sentences: SentenceLength;
}

/** The estimates, and the state of the engine as far as one request depends on it. */
export interface Moment extends Estimates {
  readonly now: number;
  /** Positions of the chunks that plans assume. */
  readonly chunk: number;
  /** Milliseconds of a decode step of one row, by exit, and of all live rows. */
  readonly oneRowMs: readonly number[];
  readonly batchStepMs: number;
}

export class PlannedRequest {
  /** The shallowest exit that it may take. */
  readonly minExit: ExitIndex;
  readonly maxExit: ExitIndex;
  readonly currentExit: ExitIndex;
  /** Instants of its budget, less the time outside the engine; Infinity where it states nothing. */
  readonly end: number;
  readonly firstDue: number;
  /** That of its first sentence; Infinity behind it. */
  readonly sentenceDue: number;
  /** Mean milliseconds per token after the first. */
  readonly tpotMs: number;
  readonly hasDeadline: boolean;
  /** Whether its budget is promised. A budget that is over has no promise to be late for. */
  readonly isPromised: boolean;
  /** Whether it holds a slot. */
  readonly isLive: boolean;
  /** Prompt, or after preemption prompt and answer, is not processed yet. */
  readonly isPrefilling: boolean;
  /** Whether its exit may still be chosen: the answer has not begun, or begins again behind thoughts. */
  readonly isBeginning: boolean;
  /** Positions that every stage of its exit has processed before its next decode step: all but the last. */
  readonly target: number;
  readonly frontiers: ArrayLike<number>;
  /** The same at its turn, with the prefix that another live prompt brings until then. */
  readonly #expected: ArrayLike<number>;
  readonly #moment: Moment;
  /** By exit; empty where the answer runs to maxTokens. */
  readonly #lengths: readonly LengthDistribution[];
  // By exit.
  readonly #prefillMs: (number | undefined)[] = [];
  readonly #meanLeft: (number | undefined)[] = [];
  readonly #guaranteed: (number | undefined)[] = [];
  #dueAt: number | undefined;
  #sentenceTokens: number | undefined;
  #isReachable: boolean | undefined;

  /** @param terms those of a proposal; absent: the sequence's own */
  constructor(
    readonly sequence: Sequence,
    moment: Moment,
    readonly terms: Terms = sequence,
  ) {
    this.#moment = moment;
    const { policy, lengths, utility } = moment;
    const { generated, isExactLength, kind, minExit, promptLength } = sequence;
    const { arrivedAt, budget, serviceClass } = terms;
    this.maxExit = sequence.maxExit;
    this.minExit = utility.shallowest(minExit, this.maxExit, policy.leastAccuracy, promptLength);
    this.currentExit = sequence.exit;
    this.target = promptLength + generated - 1;
    this.frontiers = sequence.frontiers;
    this.#expected = sequence.expectedFrontiers;
    this.#lengths = isExactLength ? [] : lengths.of(kind, sequence.tenant);
    const from = arrivedAt - policy.requestOverheadMs;
    this.end = from + (budget?.totalMs ?? Infinity);
    this.firstDue = from + (budget?.ttftMs ?? Infinity);
    const sentenceDue = from + (budget?.sentenceMs ?? Infinity);
    // Behind the instant nothing is left to lose.
    this.sentenceDue = sequence.sentence.first !== null || sentenceDue < moment.now ? Infinity : sentenceDue;
    this.tpotMs = budget?.tpotMs ?? Infinity;
    // A request past its total budget, or with the first token that was its whole budget, has nothing left to lose.
    const awaitsFirst = sequence.firstTokenAt === null && this.firstDue < Infinity;
    const hasInstant = this.promisedBy < Infinity || this.tpotMs < Infinity || awaitsFirst;
    this.hasDeadline = hasInstant && this.end >= moment.now;
    this.isPromised = this.hasDeadline && serviceClass === 'guaranteed';
    this.isLive = sequence.slot !== null;
    this.isPrefilling = generated === 0 || (this.isLive ? (this.frontiers[0] ?? 0) : 0) < this.target;
    const isBehind = this.isLive && this.remainingPrefill(this.currentExit) > 0;
    this.isBeginning = this.isLive ? isBehind && (generated === 0 || !this.isPrefilling) : generated === 0;
  }

  /** When the steps that a guarantee covers are to be done. */
  get promisedBy(): number {
    return Math.min(this.end, this.sentenceDue);
  }

  /** The exits that a plan may choose, the deepest first: those up to a bound, and at least the shallowest. */
  exitsWithin(bound: ExitIndex): readonly ExitIndex[] {
    const first = Math.max(this.minExit, Math.min(this.maxExit, bound));
    return Array.from({ length: first - this.minExit + 1 }, (_, i) => first - i);
  }

  /** Tokens within which its first sentence ends, at the quantile of output-length.ts. */
  get sentenceTokens(): number {
    const { kind, tenant, isNet } = this.sequence;
    return (this.#sentenceTokens ??= this.#moment.sentences.first(kind, tenant, isNet));
  }

  /** Mean decode steps left at an exit. */
  meanLeft(exit: ExitIndex): number {
    const { generated, maxTokens } = this.sequence;
    if (maxTokens <= generated) return 0;
    return (this.#meanLeft[exit] ??= this.#lengths[exit]?.meanLeft(generated, maxTokens) ?? maxTokens - generated);
  }

  /** Decode steps left that a share of such answers does not exceed at an exit. */
  stepsLeft(exit: ExitIndex, share: number): number {
    const { generated, maxTokens } = this.sequence;
    return (this.#lengths[exit]?.quantile(share, generated, maxTokens) ?? maxTokens) - generated;
  }

  /** Probability that at most so many decode steps are left at an exit. */
  endsWithin(exit: ExitIndex, steps: number): number {
    const { generated, maxTokens } = this.sequence;
    if (steps >= maxTokens - generated) return 1;
    const length = this.#lengths[exit];
    if (length === undefined || steps <= 0) return 0;
    return 1 - length.longerThan(generated + steps) / Math.max(1e-9, length.longerThan(generated));
  }

  /** Probability that the answer is worth something after so many steps: it has ended, or it may land. */
  isGoodWithin(exit: ExitIndex, steps: number): number {
    const { sentence, generated, lands } = this.sequence;
    if (!lands) return this.endsWithin(exit, steps);
    if (sentence.first !== null) return 1;
    // The end takes a step of its own.
    const own = sentenceWithin(generated + steps - 1, this.sentenceTokens, this.#moment.policy);
    return own >= 1 ? own : Math.max(own, this.endsWithin(exit, steps));
  }

  /** Decode steps that a guarantee covers: to the end of a sentence if one is due or it lands, else to its own end. */
  guaranteedSteps(exit: ExitIndex): number {
    return (this.#guaranteed[exit] ??= this.#guaranteedAt(exit));
  }

  #guaranteedAt(exit: ExitIndex): number {
    const { lands, sentence } = this.sequence;
    const isDue = this.sentenceDue < Infinity;
    if (this.end === Infinity && !isDue) return this.tpotMs === Infinity ? 1 : this.stepsLeft(exit, 0.5);
    const whole = this.stepsLeft(exit, this.#moment.policy.covered);
    return lands || isDue ? Math.min(whole, Math.max(1, this.sentenceTokens - sentence.tokens)) : whole;
  }

  /** Positions that an exit's units lack: the rest of the prompt, or the catch-up of a deeper exit. */
  remainingPrefill(exit: ExitIndex, frontiers = this.frontiers): number {
    return Math.max(0, this.target - frontierAt(frontiers, exit, this.#moment.model));
  }

  /** Prefill or catch-up that an exit takes first, ms, less the prefix that another prompt is expected to compute. */
  prefillMs(exit: ExitIndex): number {
    return (this.#prefillMs[exit] ??= this.#prefillMsAt(exit));
  }

  #prefillMsAt(exit: ExitIndex): number {
    const { model, chunk } = this.#moment;
    // The table has whole prompts: one with a stored prefix counts as a prompt of its rest.
    if (!this.isLive) return promptMs(model, exit, this.remainingPrefill(exit, this.#expected), chunk);
    return advanceMs(this.#expected, exit, this.target, model, chunk);
  }

  /** Chunks of the prefill that is left at an exit, at least one. */
  chunks(exit: ExitIndex): number {
    return Math.max(1, Math.ceil(this.remainingPrefill(exit, this.#expected) / this.#moment.chunk));
  }

  /**
   * Expected right answers at an exit with so many further tokens at the deadline, as a share of full depth's, 0..1. An
   * answer that can't land is worth as much as it is likely to be whole.
   */
  utilityAt(exit: ExitIndex, steps: number): number {
    const { generated, maxTokens, lands, promptLength } = this.sequence;
    const { utility } = this.#moment;
    const accuracy = utility.accuracy(exit, promptLength);
    if (generated + steps >= maxTokens) return accuracy;
    return accuracy * (lands ? utility.partialValue(generated + steps) : this.endsWithin(exit, steps));
  }

  /** Instant by which the request is to be served; Infinity without a deadline. */
  get dueAt(): number {
    return (this.#dueAt ??= this.#dueAtOf());
  }

  #dueAtOf(): number {
    const { sequence, terms, promisedBy, firstDue, tpotMs, maxExit } = this;
    if (!this.hasDeadline) return Infinity;
    const due = Math.min(promisedBy, sequence.firstTokenAt === null ? firstDue : Infinity);
    if (due < Infinity || tpotMs === Infinity) return due;
    // A budget of TPOT alone takes its turn as if that TPOT gave its deadline.
    const steps = this.stepsLeft(maxExit, 0.5);
    return terms.arrivedAt + tpotMs * (sequence.generated + steps);
  }

  /**
   * Whether the budget can still be met: at the shallowest exit, beside the rows that run. A request that is urgent but
   * hopeless would only make others late.
   */
  get isReachable(): boolean {
    return (this.#isReachable ??= this.isReachableIn(0));
  }

  /** The same behind so many milliseconds of other prompts. */
  isReachableIn(waitMs: number): boolean {
    const { now, oneRowMs, batchStepMs, policy } = this.#moment;
    const { minExit, end, sequence } = this;
    if (!this.hasDeadline) return false;
    const stepMs = Math.max(at(oneRowMs, minExit), batchStepMs);
    const from = now + waitMs + this.prefillMs(minExit);
    if (sequence.firstTokenAt === null && end === Infinity && from + stepMs > this.firstDue) return false;
    const steps = (end - from) / stepMs;
    return sequence.isRefusable
      ? this.isGoodWithin(minExit, steps) >= policy.leastSentence
      : steps >= this.stepsLeft(minExit, 0.5);
  }
}

/** [tokens, share of the whole answers' worth that answers of at most so many tokens keep], both rising. */
export type PartialValue = readonly (readonly [number, number])[];

/** Tokens at which an answer keeps .63 of its worth, by the embedded model on everyday requests. */
const KEPT_TOKENS = 20;

export class Utility {
  /** @param kept null without a measurement */
  constructor(
    private readonly shape: DepthShape,
    private readonly kept: PartialValue | null,
  ) {}

  /**
   * Share of full depth's right answers that an exit gives, 0..1.
   * @param promptTokens length of the prompt; one below all measured lengths counts as the shortest of them
   */
  accuracy(exit: ExitIndex, promptTokens = 0): number {
    return accuracyBehind(at(this.shape.exits, exit), promptTokens);
  }

  /**
   * The shallowest exit between two that gives at least a share of full depth's right answers behind a prompt. Without
   * a measurement by length it is the first of the two.
   */
  shallowest(from: ExitIndex, to: ExitIndex, least: number, promptTokens: number): ExitIndex {
    let exit = from;
    const isLess = (): boolean => this.accuracy(exit, promptTokens) < least;
    while (exit < to && this.shape.exits[exit]?.accuracyByPrompt !== undefined && isLess()) exit += 1;
    return exit;
  }

  /** Share of an answer's worth that at most so many tokens keep, 0..1. */
  partialValue(tokens: number): number {
    return this.kept === null ? 1 - Math.exp(-tokens / KEPT_TOKENS) : interpolated(this.kept, tokens);
  }
}
