/**
 * The text of a local answer beside an upstream that may still answer: it waits for its first whole sentence.
 *
 * Must not know: the upstream, clocks.
 */
import type { Piece } from '../api/generation/choice.js';
import { HeldAnswer } from './held-answer.js';

export class LocalText extends HeldAnswer {
  #isShown = false;

  /**
   * @param choices of the answer
   * @param isStream whether text goes out as it comes; else it waits for the end
   * @param holdsSentences whether it goes out in whole sentences only
   * @param send takes the pieces in their order, each once
   * @param spoke is called once its first sentence is whole
   */
  constructor(
    choices: number,
    private readonly isStream: boolean,
    private readonly holdsSentences: boolean,
    send: (piece: Piece) => void,
    private readonly spoke: () => void,
  ) {
    super(choices, send);
  }

  override add(piece: Piece): void {
    const shown = this.holdsSentences ? 'sentence' : 'none';
    const before = this.sentences;
    super.add(piece, this.isStream && this.#isShown ? shown : 'all');
    if (before === 0 && this.sentences > before) this.spoke();
  }

  /** Text goes out as it comes, with the text that waits. */
  show(): void {
    this.#isShown = true;
    if (!this.isStream || this.received === 0) return;
    if (this.holdsSentences) this.releaseSentences();
    else this.releaseAll();
  }
}
