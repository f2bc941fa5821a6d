/**
 * One request in planning units: deadlines as instants, prefill as milliseconds and the rest of the answer as tokens,
 * at each exit.
 *
 * Knows: one sequence, the moment of planning. Must not know: other sequences.
 */
import type { CostModel, DepthShape, ExitIndex, ExitShape } from './cost/model.js';
import { advanceMs, type ExitCost, frontierAt, promptMs, stepMsOf } from './cost/step-costs.js';
import { type LengthDistribution, type OutputLengths, type SentenceLength, sentenceWithin } from './output-length.js';
import { accuracyBehind } from '../model/manifest.js';
import { at } from '../../util/at.js';
import type { Policy } from './policy.js';
import type { Sequence, Terms } from './sequence.js';

/** The estimates of every plan. */
export interface Estimates {
  readonly model: CostModel;
  readonly policy: Policy;
  readonly lengths: OutputLengths;
  readonly sentences: SentenceLength;
}

/** The estimates, and the state of the engine as far as one request depends on it. */
export interface Moment extends Estimates {
  readonly now: number;
  /** Positions of the chunks that plans assume. */
  readonly chunk: number;
  /** By exit, with the margin. */
  readonly costs: readonly ExitCost[];
  /** Milliseconds of a decode step of all live rows. */
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
  /** When the steps that a guarantee covers are to be done. */
  readonly promisedBy: number;
  /** Instant by which the request is to be served; Infinity without a deadline. */
  readonly dueAt: number;
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
  /** Tokens within which its first sentence ends, at the quantile of output-length.ts. */
  readonly sentenceTokens: number;
  /** The frontiers at its turn, with the prefix that another live prompt brings until then. */
  readonly #expected: ArrayLike<number>;
  /** By exit; empty where the answer runs to maxTokens. */
  readonly #lengths: readonly LengthDistribution[];
  // By exit.
  readonly #prefillMs: (number | undefined)[] = [];
  readonly #meanLeft: (number | undefined)[] = [];
  readonly #guaranteed: (number | undefined)[] = [];
  #isReachable: boolean | undefined;

  /** @param terms those of a proposal; absent: the sequence's own */
  constructor(
    readonly sequence: Sequence,
    private readonly moment: Moment,
    readonly terms: Terms = sequence,
  ) {
    const { policy, lengths, sentences, now } = moment;
    const { firstTokenAt, generated, isExactLength, isNet, kind, promptLength, tenant } = sequence;
    const { arrivedAt, budget, serviceClass } = terms;
    this.minExit = leastExit(moment.model.shape, sequence);
    this.maxExit = sequence.maxExit;
    this.currentExit = sequence.exit;
    this.target = promptLength + generated - 1;
    this.frontiers = sequence.frontiers;
    this.#expected = sequence.expectedFrontiers;
    this.#lengths = isExactLength ? [] : lengths.of(kind, tenant);
    this.sentenceTokens = sentences.first(kind, tenant, isNet || kind === 'code');
    const from = arrivedAt - policy.requestOverheadMs;
    this.end = from + (budget?.totalMs ?? Infinity);
    this.firstDue = from + (budget?.ttftMs ?? Infinity);
    const sentenceDue = from + (budget?.sentenceMs ?? Infinity);
    // Behind the instant nothing is left to lose.
    this.sentenceDue = sequence.sentence.first !== null || sentenceDue < now ? Infinity : sentenceDue;
    this.tpotMs = budget?.tpotMs ?? Infinity;
    this.promisedBy = Math.min(this.end, this.sentenceDue);
    const due = Math.min(this.promisedBy, firstTokenAt === null ? this.firstDue : Infinity);
    // A request past its total budget, or with the first token that was its whole budget, has nothing left to lose.
    this.hasDeadline = (due < Infinity || this.tpotMs < Infinity) && this.end >= now;
    // A budget of TPOT alone takes its turn as if that TPOT gave its deadline.
    const paced = arrivedAt + this.tpotMs * (generated + (due === Infinity ? this.stepsLeft(this.maxExit, 0.5) : 0));
    this.dueAt = !this.hasDeadline ? Infinity : due < Infinity ? due : paced;
    this.isPromised = this.hasDeadline && serviceClass === 'guaranteed';
    this.isLive = sequence.slot !== null;
    this.isPrefilling = generated === 0 || (this.isLive ? (this.frontiers[0] ?? 0) : 0) < this.target;
    const isBehind = this.isLive && this.remainingPrefill(this.currentExit) > 0;
    this.isBeginning = this.isLive ? isBehind && (generated === 0 || !this.isPrefilling) : generated === 0;
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
    const own = sentenceWithin(generated + steps - 1, this.sentenceTokens, this.moment.policy);
    return Math.max(own, this.endsWithin(exit, steps));
  }

  /** Decode steps that a guarantee covers: to the end of a sentence if one is due or it lands, else to its own end. */
  guaranteedSteps(exit: ExitIndex): number {
    return (this.#guaranteed[exit] ??= this.#guaranteedAt(exit));
  }

  #guaranteedAt(exit: ExitIndex): number {
    const { lands, sentence } = this.sequence;
    const isDue = this.sentenceDue < Infinity;
    if (this.end === Infinity && !isDue) return this.tpotMs === Infinity ? 1 : this.stepsLeft(exit, 0.5);
    const whole = this.stepsLeft(exit, this.moment.policy.covered);
    return lands || isDue ? Math.min(whole, Math.max(1, this.sentenceTokens - sentence.tokens)) : whole;
  }

  /** Positions that an exit's units lack: the rest of the prompt, or the catch-up of a deeper exit. */
  remainingPrefill(exit: ExitIndex, frontiers = this.frontiers): number {
    return Math.max(0, this.target - frontierAt(frontiers, exit, this.moment.model));
  }

  /** Prefill or catch-up that an exit takes first, ms, less the prefix that another prompt is expected to compute. */
  prefillMs(exit: ExitIndex): number {
    return (this.#prefillMs[exit] ??= this.#prefillMsAt(exit));
  }

  #prefillMsAt(exit: ExitIndex): number {
    const { model, chunk } = this.moment;
    // The table has whole prompts: one with a stored prefix counts as a prompt of its rest.
    if (!this.isLive) return promptMs(model, exit, this.remainingPrefill(exit, this.#expected), chunk);
    return advanceMs(this.#expected, exit, this.target, model, chunk);
  }

  /** Chunks of the prefill that is left at an exit, at least one. */
  chunks(exit: ExitIndex): number {
    return Math.max(1, Math.ceil(this.remainingPrefill(exit, this.#expected) / this.moment.chunk));
  }

  /**
   * Whether the budget can still be met: at the shallowest exit, beside the rows that run. A request that is urgent but
   * hopeless would only make others late.
   */
  get isReachable(): boolean {
    return (this.#isReachable ??= this.#isReachableNow());
  }

  #isReachableNow(): boolean {
    const { now, costs, batchStepMs, policy } = this.moment;
    const { minExit, end, sequence } = this;
    if (!this.hasDeadline) return false;
    const stepMs = Math.max(stepMsOf(costs, [minExit]), batchStepMs);
    const from = now + this.prefillMs(minExit);
    if (sequence.firstTokenAt === null && end === Infinity && from + stepMs > this.firstDue) return false;
    const steps = (end - from) / stepMs;
    return sequence.isRefusable
      ? this.isGoodWithin(minExit, steps) >= policy.leastSentence
      : steps >= this.stepsLeft(minExit, 0.5);
  }
}

/**
 * Least share of full depth's right answers behind a prompt, 0..1. The embedded model's exits 10 and 15 have none
 * behind 480 tokens, so an answer there keeps its time and is wrong.
 */
const LEAST_ACCURACY = 0.1;

/** The shallowest exit that a request may take. It gives right answers behind the prompt, where that was measured. */
function leastExit({ exits }: DepthShape, { minExit, maxExit, promptLength }: Sequence): ExitIndex {
  const isUseless = (exit: ExitShape): boolean =>
    exit.accuracyByPrompt !== undefined && accuracyBehind(exit, promptLength) < LEAST_ACCURACY;
  let exit = minExit;
  while (exit < maxExit && isUseless(at(exits, exit))) exit += 1;
  return exit;
}
