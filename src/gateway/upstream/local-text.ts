/**
 * The text of a local answer beside an upstream that may still answer: it waits for its first whole sentence.
 *
 * Must not know: the upstream, clocks.
 */
import type { Chunk, ChunkJson } from './chunk.js';
import { HeldAnswer } from './held-answer.js';

export class LocalText {
  readonly #held: HeldAnswer;
  #head: ChunkJson = {};
  #isShown = false;

  /**
   * @param choices of the answer
   * @param isStream whether text goes out as it comes; else it waits for the end
   * @param holdsSentences whether it goes out in whole sentences only
   * @param send takes the chunks in their order, each once
   * @param spoke is called once its first sentence is whole
   */
  constructor(
    choices: number,
    private readonly isStream: boolean,
    private readonly holdsSentences: boolean,
    send: (chunk: Chunk) => void,
    private readonly spoke: () => void,
  ) {
    this.#held = new HeldAnswer(choices, send);
  }

  /** The last chunk so far. */
  get head(): ChunkJson {
    return this.#head;
  }

  /** Characters so far. */
  get received(): number {
    return this.#held.received;
  }

  add(chunk: Chunk): void {
    this.#head = chunk.json;
    const shown = this.holdsSentences ? 'sentence' : 'none';
    const before = this.#held.sentences;
    this.#held.add(chunk, this.isStream && this.#isShown ? shown : 'all');
    if (before === 0 && this.#held.sentences > before) this.spoke();
  }

  /** Text goes out as it comes, with the text that waits. */
  show(): void {
    this.#isShown = true;
    if (!this.isStream || this.#held.received === 0) return;
    if (this.holdsSentences) this.#held.releaseSentences();
    else this.#held.releaseAll();
  }

  /** Sends the rest of a whole answer. */
  finish(): void {
    this.#held.releaseAll();
  }

  /** @see HeldAnswer.cut */
  cut(): { readonly length: number; readonly isSentence: boolean } {
    return this.#held.cut();
  }
}
