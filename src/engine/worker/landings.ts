/**
 * Lands answers: sets the end pressure of each token by the place in its text and the time that its budget leaves.
 *
 * Must not know: logits, how a budget becomes a window.
 */
import type { Landing } from '../../scheduler/router.js';
import { landingPlan } from '../../protocol/early-end.js';
import type { Sequence } from '../../scheduler/sequence.js';
import { continuesSentence } from '../landing/characters.js';
import type { Place } from '../landing/place.js';
import { endPressure, LANDING, thoughtsEnd } from '../landing/pressure.js';
import { SentenceTokens } from '../../scheduler/sentence-length.js';
import type { EndPressure } from '../landing/text-state.js';
import type { TokenTexts } from '../landing/token-texts.js';

/** The window of a sequence's landing, or null. @param stepMs the next step, predicted */
export type WindowOf = (sequence: Sequence, stepMs: number) => Landing | null;

const NO_PRESSURE: readonly EndPressure[] = [];
/** Bytes of a token that show whether a sentence goes on. */
const SHOWN_BYTES = 16;

export class Landings {
  readonly sentenceTokens = new SentenceTokens();
  readonly #texts: TokenTexts | null;
  readonly #windowOf: WindowOf;
  #now = 0;
  #stepMs: () => number = () => 0;

  /** @param texts null: no text is known, so every landing is a cut at the deadline */
  constructor(texts: TokenTexts | null, windowOf: WindowOf) {
    this.#texts = texts;
    this.#windowOf = windowOf;
  }

  /**
   * Reads the text of sequences that decode next, sets their end pressure, and closes thoughts that are due.
   * @param stepMs the step, predicted; asked where a budget needs it
   */
  begin(rows: readonly Sequence[], now: number, stepMs: () => number): void {
    let known: number | null = null;
    this.#now = now;
    this.#stepMs = () => (known ??= stepMs());
    for (const sequence of rows) {
      this.#read(sequence);
      this.#landThoughts(sequence);
      this.plan(sequence, []);
    }
  }

  /** Sets the end pressure of the next token, and of those behind each token of a draft. */
  plan(sequence: Sequence, draft: readonly number[]): void {
    sequence.endPressures = this.#pressures(sequence, draft);
  }

  /** Whether the answer must end behind a draft, so that no draft pays beyond it. */
  mustEnd(sequence: Sequence, draft: readonly number[]): boolean {
    return (this.#pressures(sequence, draft).at(-1)?.amount ?? 0) >= LANDING.forced;
  }

  #pressures(sequence: Sequence, draft: readonly number[]): readonly EndPressure[] {
    const { text, request, constraint } = sequence;
    const isBound = constraint?.enforced === true || constraint?.isThinking === true;
    if (this.#texts === null || isBound || landingPlan(request) !== 'possible') return NO_PRESSURE;
    const places = [text.place];
    for (const token of draft) places.push(this.#behind(places.at(-1) ?? text.place, token));
    if (places.every(({ mayEnd }) => mayEnd === 'no')) return NO_PRESSURE;
    const window = this.#windowOf(sequence, this.#stepMs());
    if (window === null) return NO_PRESSURE;
    return places.map((place, i) => ({
      amount:
        sequence.generated + i < request.minTokens
          ? 0
          : endPressure(window, this.#now, place.mayEnd, this.sentenceTokens.next),
      isLifted: place.isAmbiguous ? this.#continues : null,
    }));
  }

  #behind(place: Place, token: number): Place {
    const next = place.copy();
    next.read(this.#bytes(token));
    return next;
  }

  #bytes(token: number): Uint8Array {
    return this.#texts?.of(token) ?? new Uint8Array(0);
  }

  readonly #continues = (next: number): boolean =>
    continuesSentence(Buffer.from(this.#bytes(next).subarray(0, SHOWN_BYTES)).toString('utf8'));

  /** Thoughts end before the landing of the answer behind them begins. */
  #landThoughts(sequence: Sequence): void {
    const { constraint, request, text } = sequence;
    if (constraint?.isThinking !== true || landingPlan(request) !== 'possible') return;
    const window = this.#windowOf(sequence, this.#stepMs());
    if (window === null || !thoughtsEnd(window, this.#now)) return;
    constraint.endThoughts?.();
    text.hasLandedThoughts = true;
  }

  /** Reads the tokens since the last step. Thoughts, with the token that closes them, are no text of the answer. */
  #read({ text, tokens, promptLength, request, constraint }: Sequence): void {
    const isFree = (request.grammar ?? null) === null || request.grammar?.kind === 'free';
    const isThinking = constraint?.isThinking === true;
    const start = !isFree || isThinking || text.isThinking ? tokens.length : Math.max(text.read, promptLength);
    text.isThinking = isThinking;
    text.read = tokens.length;
    for (let at = start; at < tokens.length; at++) {
      text.place.read(this.#bytes(tokens[at] ?? -1));
      this.sentenceTokens.learn(text);
    }
  }
}
