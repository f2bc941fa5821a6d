/**
 * The chunks of an answer, sent or held. The text that went out stays: the answer may end behind it, and never before.
 *
 * Must not know: clocks, connections.
 */
import { SentenceEnds } from '../text/sentences/sentence-ends.js';
import { type Chunk, type ChunkJson, EndedChoices, partOf } from './chunk.js';

/** `none`: text goes out as it comes. `sentence`: it goes out up to the last end of a sentence. `all`: it waits. */
export type Hold = 'none' | 'sentence' | 'all';

export class HeldAnswer {
  readonly #held: Chunk[] = [];
  /** The first of these that is not sent: to shift each would move all that wait. */
  #next = 0;
  readonly #ends = new SentenceEnds();
  /** Characters of the text so far. */
  received = 0;
  #sent = 0;
  /** Characters that went out, without the blank ones at their end. */
  #sentSolid = 0;
  readonly #ended: EndedChoices;
  /** Whether the answer has parts that no sentence ends. */
  isOther = false;
  #isBegun = false;
  /** The last chunk so far. */
  head: ChunkJson = {};

  /** @param send takes the chunks in their order, each once */
  constructor(
    choices: number,
    private readonly send: (chunk: Chunk) => void,
  ) {
    this.#ended = new EndedChoices(choices);
  }

  add(chunk: Chunk, hold: Hold): void {
    this.head = chunk.json;
    this.received += chunk.text.length;
    this.#ends.add(chunk.text);
    this.isOther ||= chunk.isOther;
    this.#ended.add(chunk);
    this.#held.push(chunk);
    // Before the answer begins, an error still has a status of its own.
    this.#isBegun ||= !chunk.isEmpty;
    if (!this.#isBegun) return;
    // A call has no sentences, and an answer with an end is whole.
    const isFree = hold !== 'all' && (hold === 'none' || this.isOther || this.isFinished);
    if (isFree) this.#release(Infinity);
    else if (hold === 'sentence') this.#release(this.#ends.last);
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
    return this.#ended.areAll;
  }

  /** Whether a choice ended by itself: some upstreams give fewer than the request asks for. */
  get hasEnd(): boolean {
    return this.#ended.areAny;
  }

  /** Sends the whole sentences. */
  releaseSentences(): void {
    this.#release(this.#ends.last);
  }

  /** Sends all chunks. */
  releaseAll(): void {
    this.#release(Infinity);
  }

  /**
   * Ends the text at its last whole sentence, or behind the text that went out already, and drops the rest.
   * @returns the length of the text, and whether a sentence ends there
   */
  cut(): { readonly length: number; readonly isSentence: boolean } {
    const end = this.#ends.lastIfOver;
    const length = Math.max(end, this.#sent);
    if (length > 0) this.#release(length);
    this.#next = this.#held.length;
    this.#dropSent();
    return { length, isSentence: end > 0 && this.#sentSolid <= end };
  }

  #release(limit: number): void {
    for (let chunk = this.#held[this.#next]; chunk !== undefined; chunk = this.#held[this.#next]) {
      const room = limit - this.#sent;
      if (chunk.text.length > room) {
        if (room <= 0) return;
        this.#held[this.#next] = partOf(chunk, room, chunk.text.length);
        this.#send(partOf(chunk, 0, room));
        return;
      }
      this.#next++;
      this.#send(chunk);
      if (2 * this.#next > this.#held.length) this.#dropSent();
    }
  }

  #dropSent(): void {
    this.#held.splice(0, this.#next);
    this.#next = 0;
  }

  #send(chunk: Chunk): void {
    const solid = chunk.text.trimEnd().length;
    if (solid > 0) this.#sentSolid = this.#sent + solid;
    this.#sent += chunk.text.length;
    this.send(chunk);
  }
}
