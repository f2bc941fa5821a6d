/**
 * The pieces of an answer, sent or held. The text that went out stays: the answer may end behind it, and never before.
 *
 * Must not know: clocks, connections.
 */
import { SentenceEnds } from '../text/sentences/sentence-ends.js';
import type { Ending } from '../../protocol/outcome.js';
import { emptyDelta, type Piece } from '../api/generation/choice.js';
import { isOther } from './chunk.js';

/** `none`: text goes out as it comes. `sentence`: it goes out up to the last end of a sentence. `all`: it waits. */
export type Hold = 'none' | 'sentence' | 'all';

const textOf = (piece: Piece): string => ('text' in piece ? piece.text : '');

export class HeldAnswer {
  #held: Piece[] = [];
  readonly ends = new SentenceEnds();
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
    private readonly send: (piece: Piece) => void,
  ) {}

  add(piece: Piece, hold: Hold): void {
    const text = textOf(piece);
    this.received += text.length;
    this.ends.add(text);
    this.isOther ||= isOther(piece);
    if ('finishReason' in piece) this.#ended.add(piece.index);
    this.#held.push(piece);
    // A call has no sentences, and an answer with an end is whole.
    this.release(hold === 'sentence' && (this.isOther || this.isFinished) ? 'none' : hold);
  }

  /** Whether a piece waits. */
  get isHolding(): boolean {
    return this.#held.length > 0;
  }

  /** Whether each choice ended by itself. */
  get isFinished(): boolean {
    return this.#ended.size >= this.choices;
  }

  /** Sends the pieces that need not wait. */
  release(hold: Hold): void {
    if (hold !== 'all') this.#sendTo(hold === 'none' ? Infinity : this.ends.last);
  }

  /**
   * Ends the text at its last whole sentence, or behind the text that went out already, and drops the rest.
   * @returns the end as a client sees it; null without any text
   */
  landed(): Ending | null {
    const end = this.ends.lastIfOver;
    const length = Math.max(end, this.sent);
    if (length > 0) this.#sendTo(length);
    this.#held = [];
    return length === 0 ? null : { end: end > 0 && this.#sentSolid <= end ? 'landed' : 'cut' };
  }

  /** Pieces leave the list together: to shift each would move all that wait. */
  #sendTo(limit: number): void {
    let count = 0;
    let end = this.sent;
    for (let piece = this.#held[0]; piece !== undefined; piece = this.#held[++count]) {
      if (end + textOf(piece).length > limit) break;
      end += textOf(piece).length;
    }
    if (count === 0 && end >= limit) return;
    const ready = this.#held.splice(0, count);
    const next = this.#held[0];
    if (next !== undefined && 'text' in next && end < limit) {
      this.#held[0] = { ...emptyDelta(next.index), text: next.text.slice(limit - end) };
      ready.push({ ...next, text: next.text.slice(0, limit - end) });
    }
    for (const piece of ready) this.#send(piece);
  }

  #send(piece: Piece): void {
    const text = textOf(piece);
    const solid = text.trimEnd().length;
    if (solid > 0) this.#sentSolid = this.sent + solid;
    this.sent += text.length;
    this.send(piece);
  }
}
