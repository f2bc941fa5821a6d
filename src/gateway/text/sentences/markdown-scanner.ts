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
/** Marks that leave a line of code without its end. */
const OPEN_LINE = /[{([,:\\=+\-*/|&.<]/;

export class MarkdownScanner {
  line: Line = 'start';
  /** The text belongs to a list: to an item, or to the space behind one. */
  isInList = false;
  private indent = 0;
  /** Fence marks of the line, all alike. */
  private run = 0;
  private mark = 0;
  /** Fence marks that opened the code around the line; 0: none. */
  private fence = 0;
  /** Whole lines of the present table. */
  private tableLines = 0;
  /** A fence has closed, and no other text has begun. */
  private isFenceOver = false;
  /** Last visible character of the line. */
  private last: number | null = null;
  /** Lines of the open code fence that end a statement. */
  statements = 0;

  copy(): MarkdownScanner {
    return Object.assign(new MarkdownScanner(), this);
  }

  /** The text belongs to a table that has no whole row yet. */
  get isTableHead(): boolean {
    const { line, tableLines } = this;
    const begun = tableLines + (line === 'table' ? 1 : 0);
    return begun > 0 && begun < LEAST_TABLE_LINES;
  }

  /** The text belongs to a code fence, its marks included. */
  get isFenced(): boolean {
    const { fence, line, run } = this;
    return fence > 0 || line === 'info' || (line === 'fence' && run >= LEAST_FENCE);
  }

  /** A code fence is open, and its opening marks are over. */
  get isInFence(): boolean {
    return this.fence > 0;
  }

  /** The marks that close the open code fence; empty without one. */
  get openFence(): string {
    const { fence, mark } = this;
    return fence > 0 ? String.fromCodePoint(mark).repeat(fence) : '';
  }

  /** A code fence is complete, and no other text has begun. */
  get isFenceEnd(): boolean {
    return this.isFenceOver || this.#closes;
  }

  read(code: number, kind: CharacterKind): void {
    if (kind !== 'newline' && kind !== 'blank') this.last = code;
    if (kind === 'newline') this.#endLine();
    else if (kind === 'blank') this.#blank(code);
    else if (this.fence > 0) this.#code(code);
    else this.#visible(code, kind);
  }

  get #closes(): boolean {
    const { fence, line, run } = this;
    return fence > 0 && line === 'fence' && run >= fence;
  }

  #endLine(): void {
    if (this.#closes) {
      this.fence = 0;
      this.statements = 0;
      this.isFenceOver = true;
    } else if (this.fence === 0 && this.isFenced) this.fence = this.run;
    else if (this.fence > 0 && this.last !== null && !OPEN_LINE.test(String.fromCodePoint(this.last)))
      this.statements++;
    this.last = null;
    if (this.line === 'table') this.tableLines += 1;
    this.line = 'start';
    this.indent = 0;
    this.run = 0;
  }

  #blank(code: number): void {
    if (this.line === 'start') this.indent += code === TAB ? TAB_COLUMNS : 1;
    else if (this.line === 'number') this.#text();
    else if (this.line === 'item' || this.line === 'star') {
      // Behind its mark, an item begins as a line does: with a fence, or a list of its own.
      this.isInList = true;
      this.line = 'start';
      this.indent = ITEM_INDENT;
    }
  }

  /** A visible character inside of a fence, which only a line of its marks closes. */
  #code(code: number): void {
    const isMark = code === this.mark && (this.line === 'start' || this.line === 'fence');
    this.run = isMark ? this.run + 1 : 0;
    this.line = isMark ? 'fence' : 'text';
  }

  #visible(code: number, kind: CharacterKind): void {
    this.isFenceOver = false;
    if (this.line === 'start') this.#begin(code, kind);
    else if (this.line === 'number') {
      if (NUMBER_MARKS.has(code)) this.line = 'item';
      else if (kind !== 'digit') this.#text();
    } else if (this.line === 'item') this.#text();
    else if (this.line === 'star') {
      // A line may begin in bold, with a number behind the mark.
      if (code === STAR) this.line = 'start';
      else this.#text();
    } else if (this.line === 'fence') {
      if (code === this.mark) this.run++;
      else if (this.run >= LEAST_FENCE) this.line = 'info';
      else this.#text();
    } else if (this.line === 'info' && code === BACKTICK && this.mark === BACKTICK) this.#text();
  }

  #begin(code: number, kind: CharacterKind): void {
    if (code === QUOTATION) return;
    if (code !== BAR) this.tableLines = 0;
    if (kind === 'digit') this.line = 'number';
    else if (BULLETS.has(code)) this.line = 'item';
    else if (code === STAR) this.line = 'star';
    else if (code === BACKTICK || code === TILDE) {
      this.line = 'fence';
      this.mark = code;
      this.run = 1;
    } else {
      this.#text();
      if (code === HASH) this.line = 'heading';
      if (code === BAR) this.line = 'table';
    }
  }

  /** The line is text. Without an indent, it ends a list. */
  #text(): void {
    this.line = 'text';
    if (this.indent < ITEM_INDENT) this.isInList = false;
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
