/**
 * One request in planning units: deadlines as instants, prefill as milliseconds and the rest of the answer as tokens,
 * at each exit.
 *
 * Knows: one sequence, the moment of planning. Must not know: other sequences.
 */
import { type CostModel, type ExitIndex, at } from './cost/model.js';
import { advanceMs, frontierAt, oneRowStepMs } from './cost/step-costs.js';
import type { Budget } from '../../protocol/index.js';
import type { BatchEntry } from './forecast.js';
import type { LengthDistribution, OutputLengths } from './output-length.js';
import { type Policy, plannedChunk } from './policy.js';
import type { Sequence, Terms } from './sequence.js';
import { type SentenceLength, sentenceWithin } from './sentence-length.js';
import type { Utility } from './utility.js';

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
  /** Milliseconds of a decode step of all live rows. */
  readonly batchStepMs: number;
}

/** The instants of a budget; Infinity where it states nothing. */
export interface Deadlines {
  readonly firstToken: number;
  readonly end: number;
  /** Mean milliseconds per token after the first. */
  readonly tpotMs: number;
}

export class PlannedRequest {
  /** The shallowest exit that it may take. */
  readonly minExit: ExitIndex;
  readonly maxExit: ExitIndex;
  readonly currentExit: ExitIndex;
  readonly deadlines: Deadlines;
  readonly hasDeadline: boolean;
  /** Whether its budget is promised. A budget that is over has no promise to be late for. */
  readonly isPromised: boolean;
  /** Positions that every stage of its exit has processed before its next decode step: all but the last. */
  readonly target: number;
  readonly frontiers: ArrayLike<number>;
  /** The same at its turn, with the prefix that another live prompt brings until then. */
  readonly expectedFrontiers: ArrayLike<number>;
  readonly #moment: Moment;
  /** By exit; empty where the answer runs to maxTokens. */
  readonly #lengths: readonly LengthDistribution[];
  /** By exit. */
  readonly #prefillMs: (number | undefined)[] = [];
  readonly #entries: (BatchEntry | undefined)[] = [];
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
    const { policy, lengths } = moment;
    const { generated, isExactLength, kind } = sequence;
    this.maxExit = sequence.maxExit;
    this.currentExit = sequence.exit;
    this.target = sequence.promptLength + generated - 1;
    this.frontiers = sequence.frontiers;
    this.expectedFrontiers = sequence.leader === null ? this.frontiers : sequence.expectedFrontiers;
    this.#lengths = isExactLength ? [] : lengths.of(kind, sequence.tenant);
    const { utility } = moment;
    this.minExit = utility.shallowest(terms.minExit, this.maxExit, policy.leastAccuracy, sequence.promptLength);
    this.deadlines = deadlinesOf(terms.arrivedAt, terms.budget, policy);
    const { firstToken, end, tpotMs } = this.deadlines;
    // A request past its total budget, or with the first token that was its whole budget, has nothing left to lose.
    const isOpen = end < Infinity || tpotMs < Infinity || (sequence.firstTokenAt === null && firstToken < Infinity);
    this.hasDeadline = isOpen && end >= moment.now;
    this.isPromised = this.hasDeadline && terms.serviceClass === 'guaranteed';
  }

  /** Whether it holds a slot. */
  get isLive(): boolean {
    return this.sequence.slot !== null;
  }

  /** Prompt, or after preemption prompt and answer, is not processed yet. */
  get isPrefilling(): boolean {
    return this.sequence.generated === 0 || (this.isLive ? (this.frontiers[0] ?? 0) : 0) < this.target;
  }

  /** Whether its exit may still be chosen: the answer has not begun, or begins again behind thoughts. */
  get isBeginning(): boolean {
    if (!this.isLive) return this.sequence.generated === 0;
    const isBehind = this.remainingPrefill(this.currentExit) > 0;
    return isBehind && (this.sequence.generated === 0 || !this.isPrefilling);
  }

  /** The exits that a plan may choose, the deepest first: those up to a bound, and at least the shallowest. */
  exitsWithin(bound: ExitIndex): readonly ExitIndex[] {
    const first = Math.max(this.minExit, Math.min(this.maxExit, bound));
    return Array.from({ length: first - this.minExit + 1 }, (_, i) => first - i);
  }

  /** Tokens within which its first sentence ends, at the quantile of sentence-length.ts. */
  get sentenceTokens(): number {
    const { kind, tenant } = this.sequence;
    return (this.#sentenceTokens ??= this.#moment.sentences.first(kind, tenant));
  }

  /** Mean decode steps left at an exit. @param most tokens of the whole answer that count */
  meanLeft(exit: ExitIndex, most = Infinity): number {
    const { generated, maxTokens } = this.sequence;
    const limit = Math.min(maxTokens, most);
    if (limit <= generated) return 0;
    return this.#lengths[exit]?.meanLeft(generated, limit) ?? limit - generated;
  }

  /** Decode steps left that a share of such answers does not exceed at an exit. */
  stepsLeft(exit: ExitIndex, share: number): number {
    const { generated, maxTokens } = this.sequence;
    return (this.#lengths[exit]?.quantile(share, generated, maxTokens) ?? maxTokens) - generated;
  }

  /** Probability that at most so many decode steps are left at an exit. */
  probabilityWithin(exit: ExitIndex, steps: number): number {
    const { generated, maxTokens } = this.sequence;
    if (steps >= maxTokens - generated) return 1;
    const length = this.#lengths[exit];
    if (length === undefined || steps <= 0) return 0;
    return 1 - length.longerThan(generated + steps) / Math.max(1e-9, length.longerThan(generated));
  }

  /** Probability that the answer ends by itself, or has a whole sentence, within so many further steps. */
  landsWithin(exit: ExitIndex, steps: number): number {
    const { sentence, generated } = this.sequence;
    if (sentence.first !== null) return 1;
    // The end takes a step of its own.
    const own = sentenceWithin(generated + steps - 1, this.sentenceTokens, this.#moment.policy);
    return Math.max(own, this.probabilityWithin(exit, steps));
  }

  /** Decode steps that a guarantee covers: to the end of a sentence where the answer lands, else to its own end. */
  guaranteedSteps(exit: ExitIndex): number {
    const { sequence } = this;
    if (this.deadlines.end === Infinity) return this.deadlines.tpotMs === Infinity ? 1 : this.stepsLeft(exit, 0.5);
    const whole = this.stepsLeft(exit, this.#moment.policy.covered);
    return sequence.lands ? Math.min(whole, Math.max(1, this.sentenceTokens - sequence.sentence.tokens)) : whole;
  }

  /** Positions that an exit's units lack: the rest of the prompt, or the catch-up of a deeper exit. */
  remainingPrefill(exit: ExitIndex, frontiers = this.frontiers): number {
    return Math.max(0, this.target - frontierAt(frontiers, exit, this.#moment.model));
  }

  /**
   * Prefill or catch-up that an exit takes first, ms, less the prefix that another prompt is expected to compute. A
   * catch-up runs in one piece where it can.
   */
  prefillMs(exit: ExitIndex): number {
    const { model, policy } = this.#moment;
    const chunk = this.isPrefilling ? plannedChunk(policy) : at(policy.chunks, policy.chunks.length - 1);
    return (this.#prefillMs[exit] ??= advanceMs(this.expectedFrontiers, exit, this.target, model, chunk));
  }

  /** Chunks of the prefill that is left at an exit, at least one. */
  chunks(exit: ExitIndex): number {
    const left = this.remainingPrefill(exit, this.expectedFrontiers);
    return Math.max(1, Math.ceil(left / plannedChunk(this.#moment.policy)));
  }

  /** Milliseconds of a decode step at an exit, alone on the machine. */
  stepMs(exit: ExitIndex): number {
    return oneRowStepMs(this.#moment.model, exit, this.target);
  }

  /** The request in a forecast of the batch: to its mean length, or to its deadline where it lands. */
  entry(exit: ExitIndex): BatchEntry {
    return (this.#entries[exit] ??= this.#entryAt(exit));
  }

  #entryAt(exit: ExitIndex): BatchEntry {
    const { dueAt, sequence, deadlines, isLive: hasSlot } = this;
    return {
      dueAt,
      leavesAt: sequence.lands ? deadlines.end - this.#moment.now : Infinity,
      exit,
      prefillMs: this.prefillMs(exit),
      chunks: this.chunks(exit),
      tokens: this.meanLeft(exit),
      guaranteedTokens: this.guaranteedSteps(exit),
      hasSlot,
      promisedBy: Infinity,
    };
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
    return accuracy * (lands ? utility.partialValue(generated + steps) : this.probabilityWithin(exit, steps));
  }

  /** Instant by which the request is to be served; Infinity without a deadline. */
  get dueAt(): number {
    return (this.#dueAt ??= this.#dueAtOf());
  }

  #dueAtOf(): number {
    const { sequence, terms, deadlines, hasDeadline, maxExit } = this;
    if (!hasDeadline) return Infinity;
    const { firstToken, end, tpotMs } = deadlines;
    const due = Math.min(end, sequence.firstTokenAt === null ? firstToken : Infinity);
    if (due !== Infinity || tpotMs === Infinity) return due;
    // A budget of TPOT alone takes its turn as if that TPOT gave its deadline.
    return (
      terms.arrivedAt + tpotMs * (sequence.generated + this.stepsLeft(maxExit, this.#moment.policy.tpotDeadlineShare))
    );
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
    const { now, batchStepMs, policy } = this.#moment;
    const { hasDeadline, minExit, deadlines, sequence } = this;
    if (!hasDeadline) return false;
    const from = now + waitMs + this.prefillMs(minExit);
    const stepMs = Math.max(this.stepMs(minExit), batchStepMs);
    const isFirstLate = sequence.firstTokenAt === null && from + stepMs > deadlines.firstToken;
    if (isFirstLate && deadlines.end === Infinity) return false;
    const steps = (deadlines.end - from) / stepMs;
    return sequence.lands
      ? this.landsWithin(minExit, steps) >= policy.leastSentence
      : steps >= this.stepsLeft(minExit, 0.5);
  }
}

/** The request's overhead outside the engine is taken off. */
export function deadlinesOf(arrivedAt: number, budget: Budget | null, { requestOverheadMs }: Policy): Deadlines {
  const from = arrivedAt - requestOverheadMs;
  return {
    firstToken: from + (budget?.ttftMs ?? Infinity),
    end: from + (budget?.totalMs ?? Infinity),
    tpotMs: budget?.tpotMs ?? Infinity,
  };
}
