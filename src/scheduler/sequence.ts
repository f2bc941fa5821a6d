/**
 * One request's answer in progress: the only mutable per-request object of the engine.
 *
 * Must not know: the model, other sequences.
 */
import type { Dry } from '../model/manifest.js';
import { type Constraint, isPending } from '../engine/constraint.js';
import type { DraftCount, DraftSource, EndReason, ExitIndex, ExitLayer, EngineRequest } from '../protocol/index.js';
import type { Admission } from './router.js';
import { Draws } from '../engine/draws.js';
import { type EndPressure, TextState } from '../engine/landing/text-state.js';
import type { Slot } from './kv/slot.js';
import type { ExitUnits } from './kv/units.js';

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
  readonly #deepest: ExitIndex;
  readonly #exits: readonly Pick<ExitUnits, 'needed' | 'dry'>[];
  #counts: { readonly prompt: ReadonlySet<number>; readonly answer: Map<number, number> } | null = null;
  /** Null while the sequence waits. */
  slot: Slot | null = null;
  /**
   * While the sequence waits: a slot that held its first `length` tokens at its arrival. Valid as long as the slot holds
   * the same `tokens`.
   */
  prefix: { readonly slot: Slot; readonly tokens: readonly number[]; readonly length: number } | null = null;
  /** An earlier prompt that will process a common prefix before this sequence's turn, or null. */
  leader: PrefixLeader | null = null;
  /** The sequence has ended. */
  isOver = false;
  /** Exit of the next token. */
  exit: ExitIndex;
  /** The router's decision at its arrival; null before. */
  admission: Admission | null = null;
  /** Tokens of the answer in order, as runs of equal exit. */
  readonly path: { readonly exit: ExitIndex; tokens: number }[] = [];
  /** Set by a cancel; the next step ends the sequence. */
  ending: EndReason | null = null;
  startedAt: number | null = null;
  firstTokenAt: number | null = null;
  lastTokenAt: number | null = null;
  cachedTokens = 0;
  preemptions = 0;
  /** Prompt tokens whose log-probabilities were sent. The first token has none and counts as sent. */
  promptScored = 1;
  /** The answer's text, as far as landings need it. */
  readonly text = new TextState();
  /** End pressure of the next token, then of those behind each token of its draft; a missing entry is none. */
  endPressures: readonly EndPressure[] = [];
  /** Draft counts by source. */
  readonly drafts: DraftCount[] = [];

  constructor(
    readonly request: EngineRequest,
    /** Deepest exit of the request. */
    exit: ExitIndex,
    /** Constrains the tokens of the answer; null without a grammar. */
    readonly constraint: Constraint | null = null,
    /** All exits, with the units they need and their DRY rules. */
    exits: readonly Pick<ExitUnits, 'needed' | 'dry'>[] = [],
  ) {
    this.id = request.id;
    this.#exits = exits;
    this.tokens = [...request.prompt];
    this.promptLength = request.prompt.length;
    this.exit = exit;
    this.#deepest = exit;
    this.#draws = new Draws(request.sampling.seed);
  }

  /** Positions that a unit has processed. For a waiting sequence: positions that a stored prefix will save. */
  frontier(unit: number): number {
    if (this.slot !== null) return this.slot.frontier(unit);
    if (this.prefix === null || this.prefix.slot.tokens !== this.prefix.tokens) return 0;
    return Math.min(this.prefix.length, this.prefix.slot.frontier(unit));
  }

  /** Positions that a unit will have processed by its turn, with the common prefix of its leader. */
  expectedFrontier(unit: number): number {
    const own = this.frontier(unit);
    if (this.leader === null || this.leader.sequence.isOver) return own;
    const { sequence: leader, length } = this.leader;
    const isNeeded = leader.#exits[leader.exit]?.needed.includes(unit) === true;
    return Math.max(own, isNeeded ? length : Math.min(length, leader.frontier(unit)));
  }

  /** Whether tokens are left to prefill, with or without a slot. */
  get isPrompt(): boolean {
    return this.slot === null || this.slot.length < this.tokens.length - 1;
  }

  /** Tokens of the prompt, and how often the answer has each; counted from the first use on. */
  get counts(): { readonly prompt: ReadonlySet<number>; readonly answer: ReadonlyMap<number, number> } {
    if (this.#counts === null) {
      this.#counts = { prompt: new Set(this.request.prompt), answer: new Map() };
      for (const token of this.tokens.slice(this.promptLength)) this.#count(token);
    }
    return this.#counts;
  }

  /** Deepest exit of the next token if it belongs to thoughts with such a bound; else null. */
  get thinkingExit(): ExitLayer | null {
    const { isOpen = false, exit = null } = this.request.grammar?.thoughts ?? {};
    return (this.constraint?.isThinking ?? isOpen) ? exit : null;
  }

  /**
   * DRY rule for the next token. Null under a grammar: its text repeats itself legitimately, and the grammar ends it.
   */
  get dry(): Dry | null {
    const rule = this.request.sampling.dry ?? this.#exits[this.exit]?.dry ?? null;
    const isFree = this.constraint === null || this.constraint.released || this.constraint.isThinking === true;
    return isFree && rule !== null && rule.multiplier > 0 ? rule : null;
  }

  get generated(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Uniform in [0, 1), for the next token. */
  draw(): number {
    return this.#draws.next();
  }

  /** The result of `draw` after `ahead` other draws. */
  peekDraw(ahead: number): number {
    return this.#draws.peek(ahead);
  }

  countDraft(source: DraftSource, drafted: number, accepted: number): void {
    const index = this.drafts.findIndex((count) => count.source === source);
    const before = this.drafts[index] ?? { drafted: 0, accepted: 0 };
    const count = { source, drafted: before.drafted + drafted, accepted: before.accepted + accepted };
    this.drafts.splice(index < 0 ? this.drafts.length : index, 1, count);
  }

  /** Whether the next token can be decoded: the units that its exit needs lack only the last position. */
  isDecodable(needed: readonly number[]): boolean {
    return this.slot !== null && this.slot.least(needed) >= this.tokens.length - 1;
  }

  /** Whether only a pending grammar mask keeps the next token from being sampled. */
  get awaitsMask(): boolean {
    return this.constraint !== null && this.ending === null && isPending(this.constraint);
  }

  /** Appends a sampled token, unless it is an end token. @returns why the answer ends with it, or null */
  accept(token: number, at: number): EndReason | null {
    this.firstTokenAt ??= at;
    this.lastTokenAt = at;
    // Under min_tokens, sampling picks an end token only if the constraint allows nothing else (sample-batch.ts).
    const mayStop = this.generated >= this.request.minTokens || this.constraint?.enforced === true;
    if (mayStop && this.request.stopTokens.includes(token)) return 'stop';
    this.tokens.push(token);
    const part = this.path.at(-1);
    if (part?.exit === this.exit) part.tokens++;
    else this.path.push({ exit: this.exit, tokens: 1 });
    const { thinkingExit } = this;
    this.constraint?.accept(token);
    // The answer behind the thoughts begins as deep as it may. The next plan decides its exit.
    if (thinkingExit !== null && this.constraint?.isThinking === false) this.exit = this.#deepest;
    this.#count(token);
    return this.generated >= this.request.maxTokens ? 'length' : null;
  }

  #count(token: number): void {
    this.#counts?.answer.set(token, (this.#counts.answer.get(token) ?? 0) + 1);
  }
}
