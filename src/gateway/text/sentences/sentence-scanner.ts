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

interface State {
  /** Bits of an incomplete character, and the bytes that it lacks. */
  code: number;
  lacking: number;
  /** Last visible character. */
  last: number;
  /** Last word in lower case, cut behind the longest title. */
  word: string;
  /** Open brackets of the line. */
  brackets: number;
  /** Open braces and square brackets of the paragraph, and those of its whole lines: JSON or code without a fence. */
  braces: number;
  openLines: number;
  isQuoted: boolean;
  /** The open quotation began with a low mark, so a mark that opens elsewhere closes it. */
  isLow: boolean;
  isStrong: boolean;
  isCode: boolean;
  /** The last visible text is a closing mark, and quotes and brackets behind it. */
  isMarked: boolean;
  /** That mark also occurs inside of numbers and abbreviations, and the line goes on. */
  isAmbiguous: boolean;
  /** A blank or a line's end follows the last visible character. */
  isApart: boolean;
  /** A line has ended without a closing mark, and no other text has begun. */
  isLineEnd: boolean;
  /** The text could end, and only blanks followed. */
  isPassed: boolean;
}

const START: State = {
  code: 0,
  lacking: 0,
  last: 0,
  word: '',
  brackets: 0,
  braces: 0,
  openLines: 0,
  isQuoted: false,
  isLow: false,
  isStrong: false,
  isCode: false,
  isMarked: false,
  isAmbiguous: false,
  isApart: true,
  isLineEnd: false,
  isPassed: false,
};

export class SentenceScanner {
  readonly #state: State;
  readonly #lines: MarkdownScanner;

  constructor(state: Readonly<State> = START, lines = new MarkdownScanner()) {
    this.#state = { ...state };
    this.#lines = lines;
  }

  copy(): SentenceScanner {
    return new SentenceScanner(this.#state, this.#lines.copy());
  }

  get mayEnd(): MayEnd {
    const { lacking, openLines, isMarked, isLineEnd, isPassed } = this.#state;
    if (lacking > 0 || isPassed || openLines > 0 || this.#lines.isTableHead) return 'no';
    if (this.#lines.isFenceEnd) return this.#lines.isInList ? 'line_break' : 'free';
    if (isMarked) return this.#isEnclosed ? 'line_break' : 'free';
    return isLineEnd ? 'line_break' : 'no';
  }

  /** The text belongs to a code fence. */
  get isCode(): boolean {
    return this.#lines.isFenced;
  }

  /** The text belongs to the code within a fence. */
  get isInFence(): boolean {
    return this.#lines.isInFence;
  }

  /** The marks that close the code around the place; empty outside of code. */
  get openFence(): string {
    return this.#lines.openFence;
  }

  /** Whether the text behind the place decides as well, by `continuesSentence`. */
  get isAmbiguous(): boolean {
    return this.#state.isMarked && this.#state.isAmbiguous;
  }

  /** Reads a character, by its code point. */
  readCharacter(code: number): void {
    if (this.mayEnd !== 'no') this.#state.isPassed = true;
    this.#character(code);
  }

  /**
   * Reads a token. A token of blanks behind an end is no further end: the answer would end with them.
   * @param bytes UTF-8; characters may be split over several calls
   */
  read(bytes: Uint8Array): void {
    const state = this.#state;
    if (this.mayEnd !== 'no' && bytes.length > 0) state.isPassed = true;
    for (const byte of bytes) {
      if (state.lacking > 0 && byte >>> 6 === 0b10) {
        state.code = (state.code << 6) | (byte & 0x3f);
        if (--state.lacking === 0) this.#character(Math.min(state.code, 0x10ffff));
      } else {
        state.lacking = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc0 ? 1 : 0;
        state.code = byte & (0x3f >>> state.lacking);
        if (byte < 0x80) this.#character(byte);
      }
    }
  }

  get #isEnclosed(): boolean {
    const { brackets, isQuoted, isStrong, isCode } = this.#state;
    return brackets > 0 || isQuoted || isStrong || isCode || this.#lines.isInList || this.#lines.line === 'table';
  }

  #character(code: number): void {
    const kind = kindOf(code);
    const { line } = this.#lines;
    this.#lines.read(code, kind);
    if (kind === 'newline') this.#endLine(line);
    else if (kind === 'blank') {
      this.#state.isApart = true;
      this.#state.word = '';
    } else this.#visible(code, kind);
  }

  #endLine(line: MarkdownScanner['line']): void {
    const state = this.#state;
    const isText = (line === 'text' || line === 'table') && !this.#lines.isFenced;
    if (!isText && line !== 'start') state.isMarked = false;
    if (line !== 'start') state.isLineEnd = isText && !state.isMarked && !JOINTS.has(state.last);
    // A blank line ends a paragraph.
    if (line === 'start') state.braces = 0;
    state.openLines = state.braces;
    Object.assign(state, { brackets: 0, isQuoted: false, isLow: false, isStrong: false, isCode: false });
    state.isAmbiguous = false;
    state.isApart = true;
    state.word = '';
  }

  #visible(code: number, kind: CharacterKind): void {
    const state = this.#state;
    const { isFenced, line } = this.#lines;
    state.isLineEnd = false;
    state.isPassed = false;
    if (isFenced || line === 'heading') state.isMarked = false;
    else if (kind === 'mark') {
      // The full stop behind the number of a list item ends nothing.
      state.isMarked = line !== 'item' && !(code === DOT && (state.word.length === 1 || TITLES.has(state.word)));
      state.isAmbiguous = code < 0x80 || code === ELLIPSIS;
    } else if (state.isApart || (kind !== 'quote' && kind !== 'closer')) state.isMarked = false;
    // Marks of a fence may turn out to be those of code in a line.
    if (!isFenced || line === 'fence') this.#enclose(code, kind);
    if (kind === 'letter')
      state.word = (state.word + String.fromCodePoint(code).toLowerCase()).slice(0, LONGEST_TITLE + 1);
    else if (!APOSTROPHES.has(code)) state.word = '';
    state.isApart = false;
  }

  /** Counts open brackets, quotations and marks of emphasis. A line's end closes all but braces. */
  #enclose(code: number, kind: CharacterKind): void {
    const state = this.#state;
    if (BRACES.has(code)) state.braces++;
    else if (CLOSING_BRACES.has(code)) {
      state.braces = Math.max(0, state.braces - 1);
      state.openLines = Math.min(state.openLines, state.braces);
    }
    if (kind === 'opener' && code !== LOW) state.brackets++;
    else if (kind === 'closer') state.brackets = Math.max(0, state.brackets - 1);
    else if (code === STRAIGHT) state.isQuoted = !state.isQuoted;
    else if (code === LOW) state.isQuoted = state.isLow = true;
    else if (code === OPENING) {
      state.isQuoted = !state.isLow;
      state.isLow = false;
    } else if (code === CLOSING) state.isQuoted = false;
    else if (code === BACKTICK) state.isCode = !state.isCode;
    const isPair = code === STAR && state.last === STAR && !state.isApart;
    if (isPair) state.isStrong = !state.isStrong;
    // A third mark begins another pair.
    state.last = isPair ? 0 : code;
  }
}
