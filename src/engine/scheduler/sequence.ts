/**
 * One sequence of a request: its tokens, its exit, its slot and its times. The scheduler owns it, and nothing else
 * changes it.
 *
 * Must not know: the model, logits, text.
 */
import { earlyEnd, hasBudget, hasNoEnd } from '../../protocol/outcome.js';
import type {
  AnswerKind,
  Budget,
  DraftCount,
  DraftSource,
  EndReason,
  SequenceRequest,
  ExitIndex,
  ServiceClass,
} from '../../protocol/index.js';
import { type ConstraintState, isPending } from './constraint-state.js';
import { type Slot, type ExitUnits, exitOfLayer } from './kv/units.js';
import { SentenceState } from './output-length.js';

/** The terms of a request in a plan. A proposal may have other ones than the request itself. */
export interface Terms {
  readonly arrivedAt: number;
  readonly budget: Budget | null;
  readonly serviceClass: ServiceClass;
}

const NOTHING: ArrayLike<number> = [];
/** Service of an answer's token against a prompt's. */
const ANSWER_WEIGHT = 2;

export class Sequence implements Terms {
  readonly id: string;
  readonly arrivedAt: number;
  readonly budget: Budget | null;
  readonly minExit: ExitIndex;
  /** Deepest exit of the request. */
  readonly maxExit: ExitIndex;
  readonly tenant: string;
  /** Answers that get about as long as its own. */
  readonly kind: AnswerKind;
  readonly maxTokens: number;
  /** The answer runs to maxTokens whatever it says: the client asked for no end token. */
  readonly isExactLength: boolean;
  /** Its budget lands it, and its text may end at the end of a sentence. */
  readonly lands: boolean;
  /** It is refused where its budget is unlikely to hold it. */
  readonly isRefusable: boolean;
  /** A bias of the client changes what its answer says. */
  readonly isBiased: boolean;
  readonly promptLength: number;
  /** Prompt and answer. */
  readonly tokens: number[];
  readonly #exits: readonly ExitUnits[];

  /** By its admission. */
  serviceClass: ServiceClass = 'none';
  /** Answer tokens that admission expects; fair shares charge them. */
  expectedTokens: number;
  /** Answer tokens that its promise covers; null without a promise. */
  promisedTokens: number | null = null;
  /** Null while the sequence waits. */
  slot: Slot | null = null;
  /**
   * While the sequence waits: a slot that held its first `length` tokens at its arrival. Valid as long as the slot
   * holds the same `tokens`.
   */
  prefix: { readonly slot: Slot; readonly tokens: readonly number[]; readonly length: number } | null = null;
  /** An earlier choice of the same answer, which computes the prompt of both; null for none. */
  leader: Sequence | null = null;
  /** It is that of a net, which has not begun. */
  isAsleep: boolean;
  /** Its whole prompt was processed while it slept. */
  isPrefilled = false;
  /** The sequence has ended. */
  isOver = false;
  /** Exit of the next token. */
  exit: ExitIndex;
  /** Set by a cancel; the next step ends the sequence. */
  ending: EndReason | null = null;
  /** Its present sentence. */
  readonly sentence = new SentenceState();
  startedAt: number | null = null;
  firstTokenAt: number | null = null;
  lastTokenAt: number | null = null;
  cachedTokens = 0;
  preemptions = 0;
  /** Tokens of its next draft; null until the first one. */
  draftTokens: number | null = null;
  /** Draft counts by source. */
  readonly drafts: DraftCount[] = [];

  /**
   * @param exits those of the model
   * @param constraint the grammar of the answer; null without one
   * @throws RangeError for a layer that is not an exit
   */
  constructor(
    readonly request: SequenceRequest,
    exits: readonly ExitUnits[],
    readonly constraint: ConstraintState | null = null,
  ) {
    const { depth, grammar = null } = request;
    this.id = request.id;
    this.arrivedAt = request.arrivedAt;
    this.budget = depth.budget;
    const isFree = (grammar?.kind ?? 'free') === 'free';
    // The accuracies are of free text. A shallow exit under a grammar may repeat itself where full depth ends.
    this.minExit = exitOfLayer(exits, isFree ? depth.minExit : depth.maxExit);
    this.maxExit = exitOfLayer(exits, depth.maxExit);
    this.exit = this.maxExit;
    this.tenant = request.tenant ?? '';
    this.kind = request.kind;
    this.maxTokens = request.maxTokens;
    this.expectedTokens = request.maxTokens;
    this.isExactLength = hasNoEnd(request) && isFree;
    const early = earlyEnd(request);
    this.lands = early === 'possible';
    this.isRefusable = early !== 'off';
    this.isBiased = request.sampling.logitBias.length > 0;
    this.isAsleep = request.isNet === true;
    this.promptLength = request.prompt.length;
    this.tokens = [...request.prompt];
    this.#exits = exits;
  }

  get generated(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Service that it is expected to get, in tokens of a prompt. */
  get service(): number {
    return this.tokens.length + Math.max(ANSWER_WEIGHT, this.unused);
  }

  /** The part of it that its answer is still to get; negative where the answer got more. */
  get unused(): number {
    return ANSWER_WEIGHT * (Math.min(this.expectedTokens, this.maxTokens) - this.generated);
  }

  get hasBudget(): boolean {
    return hasBudget(this.budget);
  }

  get isDryRun(): boolean {
    return this.request.isDryRun === true;
  }

  get isNet(): boolean {
    return this.request.isNet === true;
  }

  /** Positions that a unit has processed. For a waiting sequence: positions that a stored prefix will save. */
  frontier(unit: number): number {
    return this.frontiers[unit] ?? 0;
  }

  /** Positions by unit; a missing entry counts as none. */
  get frontiers(): ArrayLike<number> {
    if (this.slot !== null) return this.slot.frontiers;
    if (this.prefix === null || this.prefix.slot.tokens !== this.prefix.tokens) return NOTHING;
    const { slot, length } = this.prefix;
    return slot.frontiers.map((positions) => Math.min(length, positions));
  }

  /** Positions that each unit will have processed by its turn, with the prompt of its leader. */
  get expectedFrontiers(): ArrayLike<number> {
    const { frontiers, leader, promptLength } = this;
    if (leader === null || leader.isOver) return frontiers;
    const expected = Array.from(frontiers);
    for (const unit of leader.needed) expected[unit] = Math.max(expected[unit] ?? 0, promptLength - 1);
    return expected;
  }

  /** Units that its exit needs. */
  get needed(): readonly number[] {
    return this.#exits[this.exit]?.needed ?? [];
  }

  /** Whether tokens are left to prefill, with or without a slot. */
  get isPrompt(): boolean {
    return this.slot === null || this.slot.length < this.tokens.length - 1;
  }

  /** Whether the next token can be decoded: the units that its exit needs lack only the last position. */
  get isDecodable(): boolean {
    return this.slot !== null && this.slot.least(this.needed) >= this.tokens.length - 1;
  }

  /** Whether only a pending grammar mask keeps the next token from being sampled. */
  get awaitsMask(): boolean {
    return this.constraint !== null && this.ending === null && isPending(this.constraint);
  }

  /** Whether its grammar is open, or no answer needs it. */
  get isOpen(): boolean {
    return this.constraint !== null || (this.request.grammar ?? null) === null || this.maxTokens === 0 || this.isDryRun;
  }

  /** Whether it was promised its budget, which is not over. */
  isPromisedAt(now: number): boolean {
    const isOpen = now < this.arrivedAt + (this.budget?.totalMs ?? Infinity);
    return this.serviceClass === 'guaranteed' && isOpen;
  }

  countDraft(source: DraftSource, drafted: number, accepted: number): void {
    const index = this.drafts.findIndex((count) => count.source === source);
    const before = this.drafts[index] ?? { drafted: 0, accepted: 0 };
    const count = { source, drafted: before.drafted + drafted, accepted: before.accepted + accepted };
    this.drafts.splice(index < 0 ? this.drafts.length : index, 1, count);
  }
}
