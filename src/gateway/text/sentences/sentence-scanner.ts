/**
 * The place in a growing text behind its latest byte: whether the text may end there.
 *
 * Knows: UTF-8, sentences, Markdown by MarkdownScanner. Must not know: tokens, time, models.
 * A misjudged place ends an answer later, or in the middle of a line. The rules are those that common texts need.
 */
import { type CharacterKind, kindOf, MarkdownScanner } from './markdown-scanner.js';

/**
 * - `no`: the text is in the middle of a sentence, a heading or a code fence.
 * - `line_break`: a deadline may end it: behind a line without a closing mark, inside of a list, a quotation or
 *   brackets.
 * - `free`: a sentence or a code fence has ended.
 */
export type MayEnd = 'no' | 'line_break' | 'free';

const DOT = 0x2e;
const STAR = 0x2a;
const BACKTICK = 0x60;
const STRAIGHT = 0x22;
const OPENING = 0x201c;
const CLOSING = 0x201d;
const LOW = 0x201e;
const ELLIPSIS = 0x2026;
/** `,`, `:`, `;` and dashes at the end of a line: the next one goes on. */
const JOINTS: ReadonlySet<number> = new Set([
  0x2c, 0x3a, 0x3b, 0x2d, 0x2013, 0x2014, 0x3001, 0xff0c, 0xff1a, 0xff1b, 0x60c,
]);
/** `{` and `[`, and their closing marks. */
const BRACES: ReadonlySet<number> = new Set([0x7b, 0x5b]);
const CLOSING_BRACES: ReadonlySet<number> = new Set([0x7d, 0x5d]);
const APOSTROPHES: ReadonlySet<number> = new Set([0x27, 0x2019]);
/** Abbreviations in front of a name; single letters are abbreviations as well. */
const TITLES: ReadonlySet<string> = new Set(['mr', 'mrs', 'ms', 'dr', 'prof', 'st', 'vs']);
const LONGEST_TITLE = 4;

export class SentenceScanner {
  /** Bits of an incomplete character, and the bytes that it lacks. */
  private code = 0;
  private lacking = 0;
  /** Last visible character. */
  private last = 0;
  /** Last word in lower case, cut behind the longest title. */
  private word = '';
  /** Open brackets of the line. */
  private brackets = 0;
  /** Open braces and square brackets of the paragraph, and those of its whole lines: JSON or code without a fence. */
  private braces = 0;
  private openLines = 0;
  private isQuoted = false;
  /** The open quotation began with a low mark, so a mark that opens elsewhere closes it. */
  private isLow = false;
  private isStrong = false;
  private isCodeSpan = false;
  /** The last visible text is a closing mark, and quotes and brackets behind it. */
  private isMarked = false;
  /** That mark also occurs inside of numbers and abbreviations, and the line goes on. */
  private isUnclear = false;
  /** A blank or a line's end follows the last visible character. */
  private isApart = true;
  /** A line has ended without a closing mark, and no other text has begun. */
  private isLineEnd = false;
  /** The text could end, and only blanks followed. */
  private isPassed = false;
  readonly lines = new MarkdownScanner();

  copy(): SentenceScanner {
    return Object.assign(new SentenceScanner(), this, { lines: this.lines.copy() });
  }

  get mayEnd(): MayEnd {
    const { lacking, openLines, isMarked, isLineEnd, isPassed } = this;
    if (lacking > 0 || isPassed || openLines > 0 || this.lines.isTableHead) return 'no';
    if (this.lines.isFenceEnd) return this.lines.isInList ? 'line_break' : 'free';
    if (isMarked) return this.#isEnclosed ? 'line_break' : 'free';
    return isLineEnd ? 'line_break' : 'no';
  }

  /** Whether the text behind the place decides as well, by `continuesSentence`. */
  get isAmbiguous(): boolean {
    return this.isMarked && this.isUnclear;
  }

  /** Reads a character, by its code point. */
  readCharacter(code: number): void {
    if (this.mayEnd !== 'no') this.isPassed = true;
    this.#character(code);
  }

  /**
   * Reads a token. A token of blanks behind an end is no further end: the answer would end with them.
   * @param bytes UTF-8; characters may be split over several calls
   */
  read(bytes: Uint8Array): void {
    if (this.mayEnd !== 'no' && bytes.length > 0) this.isPassed = true;
    for (const byte of bytes) {
      if (this.lacking > 0 && byte >>> 6 === 0b10) {
        this.code = (this.code << 6) | (byte & 0x3f);
        if (--this.lacking === 0) this.#character(Math.min(this.code, 0x10ffff));
      } else {
        this.lacking = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc0 ? 1 : 0;
        this.code = byte & (0x3f >>> this.lacking);
        if (byte < 0x80) this.#character(byte);
      }
    }
  }

  get #isEnclosed(): boolean {
    const { brackets, isQuoted, isStrong, isCodeSpan } = this;
    return brackets > 0 || isQuoted || isStrong || isCodeSpan || this.lines.isInList || this.lines.line === 'table';
  }

  #character(code: number): void {
    const kind = kindOf(code);
    const { line } = this.lines;
    this.lines.read(code, kind);
    if (kind === 'newline') this.#endLine(line);
    else if (kind === 'blank') {
      this.isApart = true;
      this.word = '';
    } else this.#visible(code, kind);
  }

  #endLine(line: MarkdownScanner['line']): void {
    const isText = (line === 'text' || line === 'table') && !this.lines.isFenced;
    if (!isText && line !== 'start') this.isMarked = false;
    if (line !== 'start') this.isLineEnd = isText && !this.isMarked && !JOINTS.has(this.last);
    // A blank line ends a paragraph.
    if (line === 'start') this.braces = 0;
    this.openLines = this.braces;
    Object.assign(this, { brackets: 0, isQuoted: false, isLow: false, isStrong: false, isCodeSpan: false });
    this.isUnclear = false;
    this.isApart = true;
    this.word = '';
  }

  #visible(code: number, kind: CharacterKind): void {
    const { isFenced, line } = this.lines;
    this.isLineEnd = false;
    this.isPassed = false;
    if (isFenced || line === 'heading') this.isMarked = false;
    else if (kind === 'mark') {
      // The full stop behind the number of a list item ends nothing.
      this.isMarked = line !== 'item' && !(code === DOT && (this.word.length === 1 || TITLES.has(this.word)));
      this.isUnclear = code < 0x80 || code === ELLIPSIS;
    } else if (this.isApart || (kind !== 'quote' && kind !== 'closer')) this.isMarked = false;
    // Marks of a fence may turn out to be those of code in a line.
    if (!isFenced || line === 'fence') this.#enclose(code, kind);
    if (kind === 'letter')
      this.word = (this.word + String.fromCodePoint(code).toLowerCase()).slice(0, LONGEST_TITLE + 1);
    else if (!APOSTROPHES.has(code)) this.word = '';
    this.isApart = false;
  }

  /** Counts open brackets, quotations and marks of emphasis. A line's end closes all but braces. */
  #enclose(code: number, kind: CharacterKind): void {
    if (BRACES.has(code)) this.braces++;
    else if (CLOSING_BRACES.has(code)) {
      this.braces = Math.max(0, this.braces - 1);
      this.openLines = Math.min(this.openLines, this.braces);
    }
    if (kind === 'opener' && code !== LOW) this.brackets++;
    else if (kind === 'closer') this.brackets = Math.max(0, this.brackets - 1);
    else if (code === STRAIGHT) this.isQuoted = !this.isQuoted;
    else if (code === LOW) this.isQuoted = this.isLow = true;
    else if (code === OPENING) {
      this.isQuoted = !this.isLow;
      this.isLow = false;
    } else if (code === CLOSING) this.isQuoted = false;
    else if (code === BACKTICK) this.isCodeSpan = !this.isCodeSpan;
    const isPair = code === STAR && this.last === STAR && !this.isApart;
    if (isPair) this.isStrong = !this.isStrong;
    // A third mark begins another pair.
    this.last = isPair ? 0 : code;
  }
}
