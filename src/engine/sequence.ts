/**
 * One request's answer in the making: the only mutable per-request object of the engine.
 *
 * Knows: its request, tokens, slot and progress. Must not know: the model, other sequences.
 */
import type { Dry } from '../model/manifest.js';
import { type Constraint, isPending } from './sampling/constraint.js';
import { repetitionPenalties } from './sampling/dry.js';
import type { DraftCount, DraftSource, EndReason, GenerateMessage } from './protocol.js';
import type { Admission } from '../router/index.js';
import { Draws } from './sampling/random.js';
import { needsAllLogits } from './sampling/sampler.js';
import type { Slot } from './slots/slot.js';
import type { ExitUnits } from './execution/units.js';
import { DraftLength } from './speculation/draft-length.js';

/** Another sequence that will have processed the first `length` tokens before this one's turn. */
export interface PrefixLeader {
  readonly sequence: Sequence;
  readonly length: number;
}

export class Sequence {
  readonly id: string;
  /** Prompt and answer. */
  readonly tokens: number[];
  readonly promptLength: number;
  readonly #draws: Draws;
  readonly #adjustsLogits: boolean;
  readonly counts: { prompt: Set<number>; answer: Map<number, number> };
  /** Null while it waits. */
  slot: Slot | null = null;
  /** While it waits: the slot that held its first `length` tokens when it came, as long as it holds those `tokens`. */
  prefix: { readonly slot: Slot; readonly tokens: readonly number[]; readonly length: number } | null = null;
  /** Whose prompt brings a part of its own before its turn; null where nobody's does. */
  leader: PrefixLeader | null = null;
  /** It has ended. */
  isOver = false;
  /** Index of the exit that its next token is taken from. */
  exit: number;
  /** What the router said when it came; null before. */
  admission: Admission | null = null;
  /** Tokens of the answer in order, by index of the exit that they were taken from. */
  readonly path: { readonly exit: number; tokens: number }[] = [];
  /** Set by a cancel; the next step ends it. */
  ending: EndReason | null = null;
  startedAt: number | null = null;
  firstTokenAt: number | null = null;
  lastTokenAt: number | null = null;
  cachedTokens = 0;
  preemptions = 0;
  /** Prompt tokens whose log-probabilities were sent; the first has none. */
  promptScored = 1;
  /** How much is drafted for it. */
  readonly draftLength = new DraftLength();
  /** What was drafted for it, by source. */
  readonly drafts: DraftCount[] = [];

  constructor(
    readonly request: GenerateMessage,
    exit: number,
    /** What its tokens must keep to, or null. */
    readonly constraint: Constraint | null = null,
    /** The exits, with the units that they need and their own rules against loops. */
    private readonly exits: readonly Pick<ExitUnits, 'needed' | 'dry'>[] = [],
  ) {
    this.id = request.id;
    this.tokens = [...request.prompt];
    this.promptLength = request.prompt.length;
    this.exit = exit;
    this.#draws = new Draws(request.sampling.seed);
    this.#adjustsLogits = needsAllLogits(request.sampling);
    this.counts = { prompt: this.#adjustsLogits ? new Set(request.prompt) : new Set(), answer: new Map() };
  }

  /** Positions that a unit has processed; of one that waits, what a stored prefix will spare it. */
  frontier(unit: number): number {
    if (this.slot !== null) return this.slot.frontier(unit);
    if (this.prefix?.slot.tokens !== this.prefix?.tokens) return 0;
    return Math.min(this.prefix?.length ?? 0, this.prefix?.slot.frontier(unit) ?? 0);
  }

  /** Positions that a unit will have processed by its turn: with those that its leader brings. */
  expectedFrontier(unit: number): number {
    const own = this.frontier(unit);
    if (this.leader === null || this.leader.sequence.isOver) return own;
    const { sequence: leader, length } = this.leader;
    const isNeeded = leader.exits[leader.exit]?.needed.includes(unit) === true;
    return Math.max(own, isNeeded ? length : Math.min(length, leader.frontier(unit)));
  }

  /** Whether it still has tokens to prefill, with a slot or without. */
  get isPrompt(): boolean {
    return this.slot === null || this.slot.length < this.tokens.length - 1;
  }

  /** Whether the top of the logits can't decide its next token. */
  get wantsAllLogits(): boolean {
    return this.#adjustsLogits || this.constraint?.enforced === true;
  }

  /**
   * The rule against loops that its next token is chosen by. None where a form is kept to: a form repeats itself, and
   * ends by itself.
   */
  get dry(): Dry | null {
    const rule = this.request.sampling.dry ?? this.exits[this.exit]?.dry ?? null;
    return (this.constraint?.released ?? true) && rule !== null && rule.multiplier > 0 ? rule : null;
  }

  /** What the tokens lose that would go on with a repetition. @param draft tokens that come before them */
  dryPenalties(draft: readonly number[] = []): ReadonlyMap<number, number> {
    const { dry } = this;
    if (dry === null) return new Map();
    return repetitionPenalties(draft.length > 0 ? [...this.tokens, ...draft] : this.tokens, this.promptLength, dry);
  }

  get generated(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Uniform in [0, 1): what its next token is drawn with. */
  draw(): number {
    return this.#draws.next();
  }

  /** What `draw` will give after `ahead` others. */
  peekDraw(ahead: number): number {
    return this.#draws.peek(ahead);
  }

  countDraft(source: DraftSource, drafted: number, accepted: number): void {
    const index = this.drafts.findIndex((count) => count.source === source);
    const before = this.drafts[index] ?? { drafted: 0, accepted: 0 };
    const count = { source, drafted: before.drafted + drafted, accepted: before.accepted + accepted };
    this.drafts.splice(index < 0 ? this.drafts.length : index, 1, count);
  }

  /** Whether its next token can be decoded: the units that its exit needs lack only the last position. */
  isDecodable(needed: readonly number[]): boolean {
    return this.slot !== null && this.slot.least(needed) >= this.tokens.length - 1;
  }

  /** Whether its next token can be chosen but for a mask that is still being made. */
  get awaitsMask(): boolean {
    return this.constraint !== null && this.ending === null && isPending(this.constraint);
  }

  /** Appends a sampled token. @returns why the answer ends with it, or null; an end token is not appended */
  accept(token: number, at: number): EndReason | null {
    this.firstTokenAt ??= at;
    this.lastTokenAt = at;
    // Before its least length it is chosen only where the constraint allows nothing else (sampling/sample-batch.ts).
    const mayStop = this.generated >= this.request.minTokens || this.constraint?.enforced === true;
    if (mayStop && this.request.stopTokens.includes(token)) return 'stop';
    this.tokens.push(token);
    const part = this.path.at(-1);
    if (part?.exit === this.exit) part.tokens++;
    else this.path.push({ exit: this.exit, tokens: 1 });
    this.constraint?.accept(token);
    if (this.#adjustsLogits) this.counts.answer.set(token, (this.counts.answer.get(token) ?? 0) + 1);
    return this.generated >= this.request.maxTokens ? 'length' : null;
  }
}
