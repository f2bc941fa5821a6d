/**
 * The answer of one sequence as sampling sees it: its tokens with their counts, its random draws, its text and its
 * grammar.
 *
 * Must not know: slots, exits that are to be chosen, other answers.
 */
import type { Dry } from './model/manifest.js';
import type { EndedEvent, SequenceRequest } from '../protocol/index.js';
import type { Sequence } from './scheduler/sequence.js';
import type { LandingWindow } from './scheduler/types.js';
import type { Constraint } from './constraint.js';
import { Draws } from './draws.js';
import type { EndPressure } from './landing/pressure.js';
import { SentenceScanner } from '../gateway/text/sentences/sentence-scanner.js';

export class Answer {
  readonly id: string;
  /** Prompt and answer. */
  readonly tokens: number[];
  readonly #draws: Draws;
  #counts: { readonly prompt: ReadonlySet<number>; readonly answer: Map<number, number> } | null = null;
  /** The manifest's DRY rule for the exit of the next token. */
  exitDry: Dry | null = null;
  /** Prompt tokens whose log-probabilities were sent. The first token has none and counts as sent. */
  promptScored = 1;
  /** The place in the answer's text behind the last token that a landing read. */
  readonly place = new SentenceScanner();
  /** End pressure of the next token, then of those behind each token of its draft; a missing entry is none. */
  endPressures: readonly EndPressure[] = [];
  /** When the answer ends early, by the last plan; null where it does not. */
  window: LandingWindow | null = null;
  /** The end token as the end event reports it. */
  last: Pick<EndedEvent, 'endToken' | 'landed'> = {};

  constructor(
    /** The scheduler's part of it. */
    readonly sequence: Sequence,
    /** Constrains the tokens of the answer; null without a grammar. */
    readonly constraint: Constraint | null = null,
  ) {
    const { request } = sequence;
    this.id = request.id;
    this.tokens = [...request.prompt];
    this.#draws = new Draws(request.sampling.seed);
  }

  get request(): SequenceRequest {
    return this.sequence.request;
  }

  get promptLength(): number {
    return this.sequence.promptLength;
  }

  get generated(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Tokens of the prompt, and how often the answer has each; counted from the first use on. */
  get counts(): { readonly prompt: ReadonlySet<number>; readonly answer: ReadonlyMap<number, number> } {
    if (this.#counts === null) {
      this.#counts = { prompt: new Set(this.request.prompt), answer: new Map() };
      for (const token of this.tokens.slice(this.promptLength)) this.#count(token);
    }
    return this.#counts;
  }

  /**
   * DRY rule for the next token. Null under a grammar: its text repeats itself legitimately, and the grammar ends it.
   */
  get dry(): Dry | null {
    const rule = this.request.sampling.dry ?? this.exitDry;
    const isFree = this.constraint === null || this.constraint.released || this.constraint.isThinking === true;
    return isFree && rule !== null && rule.multiplier > 0 ? rule : null;
  }

  /** Uniform in [0, 1), for the next token. */
  draw(): number {
    return this.#draws.next();
  }

  /** The result of `draw` after `ahead` other draws. */
  peekDraw(ahead: number): number {
    return this.#draws.peek(ahead);
  }

  /** Takes a sampled token. @returns whether it ends the answer, of which it is then no part */
  accept(token: number): boolean {
    // Under min_tokens, sampling picks an end token only if the constraint allows nothing else (sample-batch.ts).
    const mayStop = this.generated >= this.request.minTokens || this.constraint?.enforced === true;
    if (mayStop && this.request.stopTokens.includes(token)) return true;
    this.tokens.push(token);
    this.constraint?.accept(token);
    this.#count(token);
    return false;
  }

  #count(token: number): void {
    this.#counts?.answer.set(token, (this.#counts.answer.get(token) ?? 0) + 1);
  }
}
