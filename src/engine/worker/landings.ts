/**
 * Lands answers: sets the end pressure of each token by the place in its text and the time that its budget leaves.
 *
 * Must not know: logits, how a budget becomes a window.
 */
import { earlyEnd } from '../../protocol/outcome.js';
import type { LandingPace } from '../scheduler/step-plan.js';
import type { Answer } from '../answer.js';
import { continuesSentence } from '../../gateway/text/sentences/markdown-scanner.js';
import type { SentenceScanner } from '../../gateway/text/sentences/sentence-scanner.js';
import { type EndPressure, endPressure, LANDING, thoughtsEnd } from '../landing/pressure.js';
import type { TokenTexts } from '../landing/token-texts.js';

const NO_PRESSURE: readonly EndPressure[] = [];
/** Bytes of a token that show whether a sentence goes on. */
const SHOWN_BYTES = 16;

export class Landings {
  readonly #texts: TokenTexts | null;
  #pace: LandingPace = { decodesAt: 0, tokenMs: 0 };

  /** @param texts null: no text is known, so every landing is a cut at the deadline */
  constructor(texts: TokenTexts | null) {
    this.#texts = texts;
  }

  /** Sets the end pressure of answers that decode next, and closes thoughts that are due. */
  begin(rows: readonly Answer[], pace: LandingPace): void {
    this.#pace = pace;
    for (const answer of rows) {
      this.#landThoughts(answer);
      this.plan(answer, []);
    }
  }

  /** Sets the end pressure of the next token, and of those behind each token of a draft. */
  plan(answer: Answer, draft: readonly number[]): void {
    answer.endPressures = this.#pressures(answer, draft);
  }

  /** Whether the answer must end behind a draft, so that no draft pays beyond it. */
  mustEnd(answer: Answer, draft: readonly number[]): boolean {
    return (this.#pressures(answer, draft).at(-1)?.amount ?? 0) >= LANDING.forced;
  }

  /**
   * Reads a token that an answer has accepted. Thoughts, with the token that closes them, are no text of the answer.
   * Code has no sentences, but a text goes back to its first statement.
   * @param wasThinking whether the token before belonged to thoughts
   * @returns whether the text may end behind the token; null where it is no text of the answer
   */
  read({ place, request, constraint, sequence }: Answer, token: number, wasThinking: boolean): boolean | null {
    const isFree = (request.grammar ?? null) === null || request.grammar?.kind === 'free';
    if (this.#texts === null || !isFree || wasThinking || constraint?.isThinking === true) return null;
    const { statements } = place.lines;
    place.read(this.#bytes(token));
    if (!place.lines.isFenced) return place.mayEnd !== 'no';
    return sequence.sentence.first === null ? place.lines.statements > statements : null;
  }

  #pressures(answer: Answer, draft: readonly number[]): readonly EndPressure[] {
    const { place, request, constraint, window } = answer;
    const isBound = constraint?.enforced === true || constraint?.isThinking === true;
    if (this.#texts === null || isBound || window === null || earlyEnd(request) !== 'possible') return NO_PRESSURE;
    const places = [place];
    for (const token of draft) places.push(this.#behind(places.at(-1) ?? place, token));
    if (places.every(({ mayEnd }) => mayEnd === 'no')) return NO_PRESSURE;
    return places.map(({ mayEnd, isAmbiguous }, i) => ({
      amount: answer.generated + i < request.minTokens ? 0 : endPressure(window, this.#pace, mayEnd),
      isLifted: isAmbiguous ? this.#continues : null,
    }));
  }

  #behind(place: SentenceScanner, token: number): SentenceScanner {
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
  #landThoughts({ constraint, window, request }: Answer): void {
    if (constraint?.isThinking !== true || window === null || earlyEnd(request) !== 'possible') return;
    if (thoughtsEnd(window, this.#pace)) constraint.endThoughts?.();
  }
}
