/**
 * Reads calls of tools out of an answer's text while it grows.
 *
 * Knows: the form of calls, which the engine's grammar has kept to. Must not know: tokens, JSON shapes of an endpoint.
 */
import { randomBytes } from 'node:crypto';
import { CALL, CALL_BEGINS } from '../../text/tool-form.js';

/** A part of a call: the first of each has id and name, and no arguments yet. */
export interface CallPart {
  /** Which call of the answer. */
  readonly index: number;
  readonly id?: string;
  readonly name?: string;
  /** The next piece of the arguments' JSON. */
  readonly arguments: string;
}

type State = 'open' | 'name' | 'middle' | 'arguments' | 'close' | 'between' | 'text';

/** What is expected literally in a state, and the state after it. */
const LITERALS: Readonly<Partial<Record<State, readonly [text: string, then: State]>>> = {
  open: [CALL.open, 'name'],
  middle: [CALL.middle, 'arguments'],
  close: [CALL.close, 'between'],
  between: [CALL.between, 'open'],
};
/** Only the end of a call has line breaks: the grammar writes JSON on one line. */
const ARGUMENTS_END = CALL.close.slice(0, CALL.close.indexOf('\n') + 1);

export class CallReader {
  #state: State = 'open';
  /** Not understood yet. */
  #held = '';
  #index = -1;
  #arguments = '';

  /** @param isOptional whether the answer may be text instead */
  constructor(private readonly isOptional: boolean) {}

  /** Whether it turned out that this is no call. */
  get isText(): boolean {
    return this.#state === 'text';
  }

  /** Whether there is a call, and the last one is whole. */
  get isComplete(): boolean {
    return this.#index >= 0 && this.#state === 'between';
  }

  /** @returns what is text, where it is no call, and the parts of calls that are now known */
  push(text: string): { text: string; parts: CallPart[] } {
    this.#held += text;
    const parts: CallPart[] = [];
    while (this.#step(parts));
    if (!this.isText) return { text: '', parts };
    return { text: this.#take(this.#held.length), parts };
  }

  /** The answer is over. @returns what was held back */
  end(): { text: string; parts: CallPart[] } {
    const held = this.#take(this.#held.length);
    if (this.#state === 'open' && this.#index < 0 && this.isOptional && !held.startsWith(CALL_BEGINS)) {
      this.#state = 'text';
      return { text: held, parts: [] };
    }
    // A brace of the arguments, unless they are whole without it.
    const isOwn = this.#state === 'arguments' && held !== '' && !isWhole(this.#arguments);
    return { text: '', parts: isOwn ? [{ index: this.#index, arguments: held }] : [] };
  }

  /** @returns whether it got on */
  #step(parts: CallPart[]): boolean {
    const literal = LITERALS[this.#state];
    if (literal !== undefined) return this.#skip(...literal);
    if (this.#state === 'name') return this.#name(parts);
    if (this.#state === 'arguments') return this.#piece(parts);
    return false;
  }

  #skip(expected: string, then: State): boolean {
    if (this.#held.startsWith(expected)) {
      this.#take(expected.length);
      this.#state = then;
      return true;
    }
    if (expected.startsWith(this.#held)) return false;
    if (this.#index >= 0 || this.#state !== 'open' || !this.isOptional)
      throw new Error('an answer left the form of its calls');
    this.#state = 'text';
    return false;
  }

  #name(parts: CallPart[]): boolean {
    const end = this.#held.indexOf('"');
    if (end < 0) return false;
    const name = this.#take(end);
    this.#arguments = '';
    parts.push({ index: ++this.#index, id: `call_${randomBytes(12).toString('hex')}`, name, arguments: '' });
    this.#state = 'middle';
    return true;
  }

  #piece(parts: CallPart[]): boolean {
    const end = this.#held.indexOf(ARGUMENTS_END);
    const length = end >= 0 ? end : this.#held.endsWith('}') ? this.#held.length - 1 : this.#held.length;
    const piece = this.#take(length);
    this.#arguments += piece;
    if (piece !== '') parts.push({ index: this.#index, arguments: piece });
    if (end < 0) return false;
    this.#state = 'close';
    return true;
  }

  #take(length: number): string {
    const taken = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return taken;
  }
}

function isWhole(json: string): boolean {
  try {
    JSON.parse(json);
    return true;
  } catch {
    return false;
  }
}
