/**
 * The kinds of lines of a growing text: as much of Markdown as decides where an answer may end.
 *
 * Kinds of characters for finding the ends of sentences. Characters are Unicode code points.
 *
 * Must not know: sentences, tokens.
 */

/**
 * The line so far.
 * - `start`: blanks and marks of quotations. `number`, `star`, `item`: it may begin a list item, which a blank decides.
 * - `fence`: a run of fence marks. `info`: the text behind such a run. `text`: anything else.
 */
type Line = 'start' | 'number' | 'star' | 'item' | 'fence' | 'info' | 'heading' | 'table' | 'text';

const BACKTICK = 0x60;
const TILDE = 0x7e;
const STAR = 0x2a;
const HASH = 0x23;
const BAR = 0x7c;
const QUOTATION = 0x3e;
const TAB = 0x09;
/** `-`, `+`, `•`, `–` and `·`. */
const BULLETS: ReadonlySet<number> = new Set([0x2d, 0x2b, 0x2022, 0x2013, 0xb7]);
/** `.` and `)` behind the number of a list item. */
const NUMBER_MARKS: ReadonlySet<number> = new Set([0x2e, 0x29]);
const LEAST_FENCE = 3;
/** Columns by which further paragraphs of a list item are indented at least. */
const ITEM_INDENT = 2;
const TAB_COLUMNS = 4;
/** Header, rule and one row: a table with fewer lines holds nothing. */
const LEAST_TABLE_LINES = 3;

interface State {
  line: Line;
  indent: number;
  /** Fence marks of the line, all alike. */
  run: number;
  mark: number;
  /** Fence marks that opened the code around the line; 0: none. */
  fence: number;
  isInList: boolean;
  /** Whole lines of the present table. */
  tableLines: number;
  /** A fence has closed, and no other text has begun. */
  isFenceEnd: boolean;
}

const START: State = {
  line: 'start',
  indent: 0,
  run: 0,
  mark: 0,
  fence: 0,
  isInList: false,
  tableLines: 0,
  isFenceEnd: false,
};

export class MarkdownScanner {
  readonly #state: State;

  constructor(state: Readonly<State> = START) {
    this.#state = { ...state };
  }

  copy(): MarkdownScanner {
    return new MarkdownScanner(this.#state);
  }

  get line(): Line {
    return this.#state.line;
  }

  /** The text belongs to a list: to an item, or to the space behind one. */
  get isInList(): boolean {
    return this.#state.isInList;
  }

  /** The text belongs to a table that has no whole row yet. */
  get isTableHead(): boolean {
    const { line, tableLines } = this.#state;
    const begun = tableLines + (line === 'table' ? 1 : 0);
    return begun > 0 && begun < LEAST_TABLE_LINES;
  }

  /** The text belongs to a code fence, its marks included. */
  get isFenced(): boolean {
    const { fence, line, run } = this.#state;
    return fence > 0 || line === 'info' || (line === 'fence' && run >= LEAST_FENCE);
  }

  /** A code fence is open, and its opening marks are over. */
  get isInFence(): boolean {
    return this.#state.fence > 0;
  }

  /** The marks that close the open code fence; empty without one. */
  get openFence(): string {
    const { fence, mark } = this.#state;
    return fence > 0 ? String.fromCodePoint(mark).repeat(fence) : '';
  }

  /** A code fence is complete, and no other text has begun. */
  get isFenceEnd(): boolean {
    return this.#state.isFenceEnd || this.#closes;
  }

  read(code: number, kind: CharacterKind): void {
    if (kind === 'newline') this.#endLine();
    else if (kind === 'blank') this.#blank(code);
    else if (this.#state.fence > 0) this.#code(code);
    else this.#visible(code, kind);
  }

  get #closes(): boolean {
    const { fence, line, run } = this.#state;
    return fence > 0 && line === 'fence' && run >= fence;
  }

  #endLine(): void {
    const state = this.#state;
    if (this.#closes) {
      state.fence = 0;
      state.isFenceEnd = true;
    } else if (state.fence === 0 && this.isFenced) state.fence = state.run;
    if (state.line === 'table') state.tableLines += 1;
    state.line = 'start';
    state.indent = 0;
    state.run = 0;
  }

  #blank(code: number): void {
    const state = this.#state;
    if (state.line === 'start') state.indent += code === TAB ? TAB_COLUMNS : 1;
    else if (state.line === 'number') this.#text();
    else if (state.line === 'item' || state.line === 'star') {
      // Behind its mark, an item begins as a line does: with a fence, or a list of its own.
      state.isInList = true;
      state.line = 'start';
      state.indent = ITEM_INDENT;
    }
  }

  /** A visible character inside of a fence, which only a line of its marks closes. */
  #code(code: number): void {
    const state = this.#state;
    const isMark = code === state.mark && (state.line === 'start' || state.line === 'fence');
    state.run = isMark ? state.run + 1 : 0;
    state.line = isMark ? 'fence' : 'text';
  }

  #visible(code: number, kind: CharacterKind): void {
    const state = this.#state;
    state.isFenceEnd = false;
    if (state.line === 'start') this.#begin(code, kind);
    else if (state.line === 'number') {
      if (NUMBER_MARKS.has(code)) state.line = 'item';
      else if (kind !== 'digit') this.#text();
    } else if (state.line === 'item') this.#text();
    else if (state.line === 'star') {
      // A line may begin in bold, with a number behind the mark.
      if (code === STAR) state.line = 'start';
      else this.#text();
    } else if (state.line === 'fence') {
      if (code === state.mark) state.run++;
      else if (state.run >= LEAST_FENCE) state.line = 'info';
      else this.#text();
    } else if (state.line === 'info' && code === BACKTICK && state.mark === BACKTICK) this.#text();
  }

  #begin(code: number, kind: CharacterKind): void {
    const state = this.#state;
    if (code === QUOTATION) return;
    if (code !== BAR) state.tableLines = 0;
    if (kind === 'digit') state.line = 'number';
    else if (BULLETS.has(code)) state.line = 'item';
    else if (code === STAR) state.line = 'star';
    else if (code === BACKTICK || code === TILDE) {
      state.line = 'fence';
      state.mark = code;
      state.run = 1;
    } else {
      this.#text();
      if (code === HASH) state.line = 'heading';
      if (code === BAR) state.line = 'table';
    }
  }

  /** The line is text. Without an indent, it ends a list. */
  #text(): void {
    this.#state.line = 'text';
    if (this.#state.indent < ITEM_INDENT) this.#state.isInList = false;
  }
}

export type CharacterKind = 'mark' | 'opener' | 'closer' | 'quote' | 'digit' | 'letter' | 'blank' | 'newline' | 'other';

/** Unicode's marks at the end of a sentence, of all scripts, and the ellipsis. */
const MARK = /[\p{Sentence_Terminal}\u2026]/u;
const KINDS: readonly (readonly [CharacterKind, RegExp])[] = [
  ['newline', /[\n\r\u2028\u2029]/u],
  ['blank', /[\s\u200b]/u],
  ['mark', MARK],
  // Quotation marks open in one language and close in another.
  ['quote', /["'`*_\u201a\u201e\p{Pi}\p{Pf}]/u],
  ['opener', /\p{Ps}/u],
  ['closer', /\p{Pe}/u],
  ['digit', /\p{Nd}/u],
  ['letter', /[\p{L}\p{M}]/u],
];

function compute(code: number): CharacterKind {
  const character = String.fromCodePoint(code);
  return KINDS.find(([, pattern]) => pattern.test(character))?.[0] ?? 'other';
}

/** Kinds of characters that occurred; at most one entry for each character of Unicode. */
const known = new Map<number, CharacterKind>();

/** @param code a code point, up to U+10FFFF */
export function kindOf(code: number): CharacterKind {
  let kind = known.get(code);
  if (kind === undefined) known.set(code, (kind = compute(code)));
  return kind;
}

/**
 * Whether a text that begins so goes on with a sentence behind its closing mark: decimals, abbreviations, addresses,
 * further marks, and a word in lower case.
 */
export function continuesSentence(text: string): boolean {
  return /^(?:[\p{Lu}\p{Ll}\p{Nd}\p{P}`]|[^\S\n\r]*\p{Ll})/u.test(text);
}
