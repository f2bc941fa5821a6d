/**
 * The places of a growing text where a sentence has ended, by the rule of landings.
 *
 * Must not know: tokens, time, models.
 */
import { continuesSentence } from './markdown-scanner.js';
import { SentenceScanner } from './sentence-scanner.js';

interface Place {
  /** Length of the text up to the place, in UTF-16 code units. */
  readonly at: number;
  /** The place ends a sentence only in front of a line's end: it is inside of a list, a quotation or brackets. */
  readonly needsLineEnd: boolean;
}

const SPACE = 0x20;
const BLANK = /[^\S\n\r]/;
const isLineEnd = (code: number): boolean => code === 0x0a || code === 0x0d;
/** Whether a character is blank, and ends no line. */
const isBlank = (code: number): boolean =>
  code === SPACE || ((code < SPACE || code > 0x7f) && BLANK.test(String.fromCodePoint(code)));
/** A mark that may be that of a decimal. */
const DIGIT_AND_MARK = /\p{Nd}\p{P}$/u;

export class SentenceEnds {
  readonly #scanner = new SentenceScanner();
  #length = 0;
  #last = 0;
  #count = 0;
  /** The latest place, which the text behind it has not decided. */
  #open: Place | null = null;
  /** Whether a blank follows that place. Only blanks do. */
  #isApart = false;
  /** The last character, and the one in front of it. */
  #latest = SPACE;
  #earlier = SPACE;
  /** The end of the last whole statement's line in the open code fence. */
  #codeEnd = 0;

  /** @param text the next part; it ends with a whole character */
  add(text: string): void {
    for (let at = 0, code = text.codePointAt(0); code !== undefined; code = text.codePointAt(at)) {
      const units = code > 0xffff ? 2 : 1;
      this.#decide(code);
      const { statements } = this.#scanner.lines;
      this.#scanner.readCharacter(code);
      this.#length += units;
      at += units;
      this.#earlier = this.#latest;
      this.#latest = code;
      if (this.#scanner.lines.statements === 0) this.#codeEnd = 0;
      else if (this.#scanner.lines.statements > statements) this.#codeEnd = this.#length - 1;
      this.#place(code);
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

  /** `last` if the text ends here: a mark at its end then ends a sentence, unless a digit is in front of it. */
  get lastIfOver(): number {
    if (this.#open === null || this.#open.needsLineEnd) return this.#last;
    const isDecimal = !this.#isApart && DIGIT_AND_MARK.test(String.fromCodePoint(this.#earlier, this.#latest));
    return isDecimal ? this.#last : this.#open.at;
  }

  /**
   * Where a text without an end of its own goes back to: the last whole sentence, list item, table row, closed fence,
   * or line of code in an open one.
   */
  get back(): { readonly length: number; readonly closing: string } {
    const sentence = this.lastIfOver;
    const isCode = this.#codeEnd > sentence;
    return { length: isCode ? this.#codeEnd : sentence, closing: isCode ? `\n${this.#scanner.lines.openFence}` : '' };
  }

  /** Whether the text ends in a code fence, or in the marks that open one. */
  get isCode(): boolean {
    return this.#scanner.lines.isFenced;
  }

  #decide(code: number): void {
    const place = this.#open;
    if (place === null) return;
    if (isBlank(code)) {
      this.#isApart = true;
      return;
    }
    const character = String.fromCodePoint(code);
    const isEnd = place.needsLineEnd
      ? isLineEnd(code)
      : !continuesSentence(this.#isApart ? ` ${character}` : character);
    if (isEnd) this.#end(place.at);
    this.#open = null;
  }

  #end(at: number): void {
    this.#last = at;
    this.#count++;
  }

  #place(code: number): void {
    const { mayEnd, isAmbiguous } = this.#scanner;
    if (mayEnd === 'no') return;
    const needsLineEnd = mayEnd === 'line_break' && !isLineEnd(code);
    if (!needsLineEnd && !isAmbiguous) {
      this.#end(this.#length);
      this.#open = null;
      return;
    }
    this.#open = { at: this.#length, needsLineEnd };
    this.#isApart = false;
  }
}

/** A text that goes back at its deadline, up to what went out. */
export class OpenText {
  readonly #ends = new SentenceEnds();
  #sent = 0;
  #held = '';

  /** Whole sentences so far. */
  get sentences(): number {
    return this.#ends.count;
  }

  /** @param waits which of the text: code waits for the end of its line @returns what goes out */
  push(text: string, waits: 'all' | 'code' | 'none'): string {
    this.#ends.add(text);
    this.#held += text;
    if (waits === 'all') return '';
    const isFree = waits === 'none' || !this.#ends.isCode;
    const units = isFree ? this.#held.length : Math.max(0, this.#ends.back.length - this.#sent);
    this.#sent += units;
    const out = this.#held.slice(0, units);
    this.#held = this.#held.slice(units);
    return out;
  }

  /** The text in front of its last end that waits, and what closes it; null if text behind that end went out. */
  back(): { readonly text: string; readonly closing: string } | null {
    const { length, closing } = this.#ends.back;
    if (length === 0 || length < this.#sent) return null;
    return { text: this.#held.slice(0, length - this.#sent).trimEnd(), closing };
  }
}
