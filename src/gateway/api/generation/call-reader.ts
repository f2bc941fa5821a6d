/**
 * Reads tool calls from the text of a growing answer.
 *
 * It relies on the form of calls that the engine's grammar enforces. Must not know: tokens, JSON forms of an endpoint.
 */
import { randomBytes } from 'node:crypto';
import { CALL, CALL_BEGINS } from '../../text/tool-form.js';

/** A part of a call. The first part of each call has id and name, and empty arguments. */
export interface CallPart {
  /** The index of the call in the answer. */
  readonly index: number;
  readonly id?: string;
  readonly name?: string;
  /** The next piece of the arguments' JSON. */
  readonly arguments: string;
  /** Fields of the upstream's own; absent: none. */
  readonly more?: Readonly<Record<string, unknown>>;
}

type State = 'open' | 'name' | 'middle' | 'arguments' | 'close' | 'between' | 'text';

/** The literal text expected in a state, and the state after it. */
const LITERALS: Readonly<Partial<Record<State, readonly [text: string, then: State]>>> = {
  open: [CALL.open, 'name'],
  middle: [CALL.middle, 'arguments'],
  close: [CALL.close, 'between'],
  between: [CALL.between, 'open'],
};
/** Only the end of a call has line breaks, because the grammar writes JSON on one line. */
const ARGUMENTS_END = CALL.close.slice(0, CALL.close.indexOf('\n') + 1);

export class CallReader {
  #state: State = 'open';
  /** Text that is not parsed yet. */
  #held = '';
  #index = -1;
  #arguments = '';

  /** @param isOptional whether the answer may be text instead */
  constructor(private readonly isOptional: boolean) {}

  /** Whether the answer has turned out to be text. */
  get isText(): boolean {
    return this.#state === 'text';
  }

  /** Whether the answer has a call and its last call is complete. */
  get isComplete(): boolean {
    return this.#index >= 0 && this.#state === 'between';
  }

  /** @returns the text of an answer without calls, and the parts of calls that are now known */
  push(text: string): { text: string; parts: CallPart[] } {
    this.#held += text;
    const parts: CallPart[] = [];
    while (this.#step(parts));
    if (!this.isText) return { text: '', parts };
    return { text: this.#take(this.#held.length), parts };
  }

  /** Ends the answer. @returns the text and the parts held back so far */
  end(): { text: string; parts: CallPart[] } {
    const held = this.#take(this.#held.length);
    if (this.#state === 'open' && this.#index < 0 && this.isOptional && !held.startsWith(CALL_BEGINS)) {
      this.#state = 'text';
      return { text: held, parts: [] };
    }
    // The held brace is part of the arguments, unless they are complete without it.
    const isOwn = this.#state === 'arguments' && held !== '' && !isWhole(this.#arguments);
    return { text: '', parts: isOwn ? [{ index: this.#index, arguments: held }] : [] };
  }

  /** @returns whether it consumed any text */
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
      throw new Error('an answer broke the form of its tool calls');
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
