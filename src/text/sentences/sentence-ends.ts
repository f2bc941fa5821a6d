/**
 * The places of a growing text where a sentence has ended, by the rule of landings.
 *
 * Must not know: tokens, time, models.
 */
import { continuesSentence } from './characters.js';
import { SentenceScanner } from './sentence-scanner.js';

interface Place {
  /** Length of the text up to the place, in UTF-16 code units. */
  readonly at: number;
  /** The place ends a sentence only in front of a line's end: it is inside of a list, a quotation or brackets. */
  readonly needsLineEnd: boolean;
}

const encoder = new TextEncoder();
const BLANKS = /^[^\S\n\r]*$/;

export class SentenceEnds {
  readonly #scanner = new SentenceScanner();
  #length = 0;
  #last = 0;
  #count = 0;
  /** The latest place, which the text behind it has not decided. */
  #open: Place | null = null;
  #behind = '';

  /** @param text the next part; it ends with a whole character */
  add(text: string): void {
    for (const character of text) {
      this.#decide(character);
      this.#scanner.read(encoder.encode(character));
      this.#length += character.length;
      this.#place(character);
    }
  }

  /** The last end of a sentence that no further text changes; 0 without one. */
  get last(): number {
    return this.#last;
  }

  /** Ends of sentences so far that no further text changes. */
  get count(): number {
    return this.#count;
  }

  /** `last` if the text ends here: a mark at its end then ends a sentence. */
  get lastIfOver(): number {
    return this.#open !== null && !this.#open.needsLineEnd ? this.#open.at : this.#last;
  }

  #decide(character: string): void {
    const place = this.#open;
    if (place === null) return;
    this.#behind += character;
    const isLineEnd = /[\n\r]/.test(character);
    if (place.needsLineEnd) {
      if (isLineEnd) this.#end(place.at);
      if (isLineEnd || !BLANKS.test(this.#behind)) this.#open = null;
    } else if (!BLANKS.test(this.#behind)) {
      if (!continuesSentence(this.#behind)) this.#end(place.at);
      this.#open = null;
    }
  }

  #end(at: number): void {
    this.#last = at;
    this.#count++;
  }

  #place(character: string): void {
    const { mayEnd, isAmbiguous } = this.#scanner;
    if (mayEnd === 'no') return;
    const needsLineEnd = mayEnd === 'line_break' && !/[\n\r]/.test(character);
    if (!needsLineEnd && !isAmbiguous) {
      this.#end(this.#length);
      this.#open = null;
      return;
    }
    this.#open = { at: this.#length, needsLineEnd };
    this.#behind = '';
  }
}
