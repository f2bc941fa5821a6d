/**
 * The pieces of an answer, sent or held. The text that went out stays: the answer may end behind it, and never before.
 *
 * Must not know: clocks, connections.
 */
import { SentenceEnds } from '../text/sentences/sentence-ends.js';
import type { Ending } from '../../protocol/outcome.js';
import { emptyDelta } from '../api/generation/choice.js';
import { type HeldPiece, isOther } from './chunk.js';

/** `none`: text goes out as it comes. `sentence`: it goes out up to the last end of a sentence. `all`: it waits. */
export type Hold = 'none' | 'sentence' | 'all';

const textOf = (piece: HeldPiece): string => ('text' in piece ? piece.text : '');

export class HeldAnswer {
  readonly #held: HeldPiece[] = [];
  /** The first of these that is not sent: to shift each would move all that wait. */
  #next = 0;
  readonly #ends = new SentenceEnds();
  /** Characters of the text so far. */
  received = 0;
  /** Characters that went out. */
  sent = 0;
  /** Characters that went out, without the blank ones at their end. */
  #sentSolid = 0;
  /** Indices of the choices that ended by themselves. */
  readonly #ended = new Set<number>();
  /** Whether the answer has parts that no sentence ends. */
  isOther = false;

  /**
   * @param choices of the answer
   * @param send takes the pieces in their order, each once
   */
  constructor(
    private readonly choices: number,
    private readonly send: (piece: HeldPiece) => void,
  ) {}

  add(piece: HeldPiece, hold: Hold): void {
    const text = textOf(piece);
    this.received += text.length;
    this.#ends.add(text);
    this.isOther ||= isOther(piece);
    if ('finishReason' in piece) this.#ended.add(piece.index);
    this.#held.push(piece);
    // A call has no sentences, and an answer with an end is whole.
    this.release(hold === 'sentence' && (this.isOther || this.isFinished) ? 'none' : hold);
  }

  /** Whole sentences so far. */
  get sentences(): number {
    return this.#ends.count;
  }

  /** Whether the text would have a whole sentence if it ended here. */
  get hasSentence(): boolean {
    return this.#ends.lastIfOver > 0;
  }

  /** Whether each choice ended by itself. */
  get isFinished(): boolean {
    return this.#ended.size >= this.choices;
  }

  /** Sends the pieces that need not wait. */
  release(hold: Hold): void {
    if (hold !== 'all') this.#sendTo(hold === 'none' ? Infinity : this.#ends.last);
  }

  /**
   * Ends the text at its last whole sentence, or behind the text that went out already, and drops the rest.
   * @returns the length of the text, and whether a sentence ends there
   */
  cut(): { readonly length: number; readonly isSentence: boolean } {
    const end = this.#ends.lastIfOver;
    const length = Math.max(end, this.sent);
    if (length > 0) this.#sendTo(length);
    this.#next = this.#held.length;
    this.#dropSent();
    return { length, isSentence: end > 0 && this.#sentSolid <= end };
  }

  /** As `cut`. @returns the end as a client sees it; null without any text */
  landed(): Ending | null {
    const { length, isSentence } = this.cut();
    return length === 0 ? null : { end: isSentence ? 'landed' : 'cut' };
  }

  #sendTo(limit: number): void {
    for (let piece = this.#held[this.#next]; piece !== undefined; piece = this.#held[this.#next]) {
      const room = limit - this.sent;
      if ('text' in piece && piece.text.length > room) {
        if (room <= 0) return;
        const { index, text, bytes = 0 } = piece;
        this.#held[this.#next] = { ...emptyDelta(index), text: text.slice(room), bytes };
        this.#send({ ...piece, text: text.slice(0, room), bytes: 0 });
        return;
      }
      this.#next++;
      this.#send(piece);
      if (2 * this.#next > this.#held.length) this.#dropSent();
    }
  }

  #dropSent(): void {
    this.#held.splice(0, this.#next);
    this.#next = 0;
  }

  #send(piece: HeldPiece): void {
    const text = textOf(piece);
    const solid = text.trimEnd().length;
    if (solid > 0) this.#sentSolid = this.sent + solid;
    this.sent += text.length;
    this.send(piece);
  }
}
