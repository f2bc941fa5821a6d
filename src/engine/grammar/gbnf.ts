/**
 * Translates a grammar from llama.cpp's notation (GBNF) to Lark's.
 *
 * Source: grammars/README.md of llama.cpp. GBNF has no lexer: each character is a terminal. So a text becomes a
 * sequence of characters here. As one Lark terminal it would win over a character class that matches a part of it.
 */
import { quoted } from '../../util/quoted.js';
import { SchemaError } from './schema-error.js';

/** Largest counted repetition, as in a JSON schema. */
const MAX_COUNT = 4096;
const MAX_DEPTH = 64;

/** Whether a grammar is GBNF and not Lark: rules are defined by `::=`. vLLM decides by the same sign. */
export function isGbnf(grammar: string): boolean {
  return /^[^"#/]*::=/m.test(grammar);
}

/** @returns the grammar in Lark's notation @throws SchemaError with the line of the fault */
export function larkOfGbnf(grammar: string): string {
  return new GbnfReader(grammar).read();
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };
/** Digits after \x, \u and \U. */
const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };
const NAME = /[A-Za-z0-9_-]+/y;
const SPACES = /(?:[ \t]|#[^\n]*)*/y;
const SPACES_AND_LINES = /(?:\s|#[^\n]*)*/y;
const COUNT = /\{[ \t]*(\d+)[ \t]*(,[ \t]*(\d*)[ \t]*)?\}/y;

class GbnfReader {
  #at = 0;
  /** Lark's names by the names of the rules that are defined or referred to. */
  readonly #names = new Map<string, string>();
  readonly #defined = new Map<string, string>();

  constructor(readonly text: string) {}

  read(): string {
    this.#skip(SPACES_AND_LINES);
    while (this.#at < this.text.length) this.#rule();
    for (const name of ['root', ...this.#names.keys()]) {
      if (!this.#defined.has(name)) throw new SchemaError(`the rule ${quoted(name)} is not defined`);
    }
    const rules = [...this.#defined].map(([name, body]) => `${this.#nameOf(name)}: ${body}`);
    return [`start: ${this.#nameOf('root')}`, ...rules].join('\n');
  }

  #rule(): void {
    const name = this.#take(NAME);
    if (name === null) throw this.#wrong('must begin with the name of a rule');
    this.#skip(SPACES);
    if (!this.text.startsWith('::=', this.#at)) throw this.#wrong(`must have "::=" after ${quoted(name)}`);
    this.#at += 3;
    this.#skip(SPACES_AND_LINES);
    if (this.#defined.has(name)) throw this.#wrong(`defines the rule ${quoted(name)} again`);
    this.#defined.set(name, this.#alternatives(0));
    const rest = this.text[this.#at];
    if (rest !== undefined && rest !== '\n' && rest !== '\r') throw this.#wrong(`has an unexpected ${quoted(rest)}`);
    this.#skip(SPACES_AND_LINES);
  }

  /** @param depth parentheses around them; within parentheses, a line break is a space */
  #alternatives(depth: number): string {
    const all = [this.#sequence(depth)];
    while (this.text[this.#at] === '|') {
      this.#at++;
      this.#skip(SPACES_AND_LINES);
      all.push(this.#sequence(depth));
    }
    return all.join(' | ');
  }

  #sequence(depth: number): string {
    const spaces = depth > 0 ? SPACES_AND_LINES : SPACES;
    const items: string[] = [];
    this.#skip(spaces);
    for (let item = this.#item(depth); item !== null; item = this.#item(depth)) {
      this.#skip(spaces);
      let repeat = this.#repeat();
      for (; repeat !== ''; repeat = this.#repeat()) {
        item = `(${item})${repeat}`;
        this.#skip(spaces);
      }
      items.push(item);
    }
    return items.length === 0 ? '""' : items.join(' ');
  }

  /** @returns null where the sequence ends */
  #item(depth: number): string | null {
    const first = this.text[this.#at];
    if (first === '"') return this.#literal();
    if (first === '[') return this.#class();
    if (first === '(') return this.#group(depth);
    if (first === '<' || first === '!') {
      throw this.#wrong(`has ${quoted(first)}: rules for tokens are not supported`);
    }
    if (first === '.') {
      this.#at++;
      return ANY;
    }
    const name = this.#take(NAME);
    return name === null ? null : this.#nameOf(name);
  }

  #group(depth: number): string {
    if (depth >= MAX_DEPTH) throw this.#wrong(`must have at most ${MAX_DEPTH} parentheses within each other`);
    this.#at++;
    const inner = this.#alternatives(depth + 1);
    if (this.text[this.#at] !== ')') throw this.#wrong('lacks a ")"');
    this.#at++;
    return `(${inner})`;
  }

  #repeat(): string {
    const sign = this.text[this.#at];
    if (sign === '*' || sign === '+' || sign === '?') {
      this.#at++;
      return sign;
    }
    if (sign !== '{') return '';
    COUNT.lastIndex = this.#at;
    const [whole = '', least, range, most] = COUNT.exec(this.text) ?? [];
    const from = Number(least);
    const to = Number(most === undefined || most === '' ? least : most);
    if (!(from <= to && to <= MAX_COUNT)) throw this.#wrong(`must have counts in order up to ${MAX_COUNT} in "{}"`);
    this.#at += whole.length;
    return range === undefined ? `{${from}}` : most === '' ? `{${from},}` : `{${from},${to}}`;
  }

  #literal(): string {
    this.#at++;
    const characters: string[] = [];
    for (let each = this.#character('"'); each !== null; each = this.#character('"')) characters.push(each);
    if (characters.length === 0) return '""';
    const text = characters.map((each) => JSON.stringify(each)).join(' ');
    return characters.length === 1 ? text : `(${text})`;
  }

  #class(): string {
    this.#at++;
    const isNegated = this.text[this.#at] === '^';
    if (isNegated) this.#at++;
    let ranges = '';
    for (let first = this.#character(']'); first !== null; first = this.#character(']')) {
      let last = first;
      if (this.text[this.#at] === '-' && this.text[this.#at + 1] !== ']') {
        this.#at++;
        last = this.#character(']') ?? first;
      }
      if (codeOf(first) > codeOf(last)) throw this.#wrong('has a range of characters in the wrong order');
      ranges += first === last ? escaped(first) : `${escaped(first)}-${escaped(last)}`;
    }
    if (ranges !== '') return `/[${isNegated ? '^' : ''}${ranges}]/`;
    if (isNegated) return ANY;
    throw this.#wrong('has an empty list of characters');
  }

  /** The next character of a text or a class. @returns null at its end, which is consumed */
  #character(end: string): string | null {
    const code = this.text.codePointAt(this.#at);
    if (code === undefined || code === 10) throw this.#wrong(`lacks a ${quoted(end)}`);
    let character = String.fromCodePoint(code);
    this.#at += character.length;
    if (character === end) return null;
    if (character !== '\\') return character;
    character = String.fromCodePoint(this.text.codePointAt(this.#at) ?? 10);
    this.#at += character.length;
    const digits = HEX_DIGITS[character];
    if (digits === undefined) return ESCAPES[character] ?? character;
    const hex = this.text.slice(this.#at, this.#at + digits);
    const value = /^[0-9A-Fa-f]+$/.test(hex) && hex.length === digits ? parseInt(hex, 16) : NaN;
    if (!(value <= 0x10ffff) || (value >= 0xd800 && value <= 0xdfff))
      throw this.#wrong(`must have ${digits} hexadecimal digits of a character after "\\${character}"`);
    this.#at += digits;
    return String.fromCodePoint(value);
  }

  #nameOf(name: string): string {
    const known = this.#names.get(name) ?? `r${this.#names.size}`;
    this.#names.set(name, known);
    return known;
  }

  #take(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.text)?.[0] ?? '';
    this.#at += found.length;
    return found === '' ? null : found;
  }

  #skip(pattern: RegExp): void {
    this.#take(pattern);
  }

  #wrong(rule: string): SchemaError {
    return new SchemaError(`line ${this.text.slice(0, this.#at).split('\n').length} ${rule}`);
  }
}

const ANY = '/(?s:.)/';

const codeOf = (character: string): number => character.codePointAt(0) ?? 0;

function escaped(character: string): string {
  return `\\x{${codeOf(character).toString(16)}}`;
}
