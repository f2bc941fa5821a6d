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
   * @param isOpen whether any text counts as its first part; else a whole sentence does
   * @param spoke is called once it has its first part
   */
  constructor(
    choices: number,
    private readonly isStream: boolean,
    private readonly holdsSentences: boolean,
    private readonly isOpen: boolean,
    send: (piece: Piece) => void,
    private readonly spoke: () => void,
  ) {
    super(choices, send);
  }

  override add(piece: Piece): void {
    const shown = this.holdsSentences ? 'sentence' : 'none';
    const hadPart = this.#hasPart;
    super.add(piece, this.isStream && this.#isShown ? shown : 'all');
    if (this.#hasPart && !hadPart) this.spoke();
  }

  get #hasPart(): boolean {
    return (this.isOpen ? this.received : this.sentences) > 0;
  }

  /** Text goes out as it comes, with the text that waits. */
  show(): void {
    this.#isShown = true;
    if (!this.isStream || this.received === 0) return;
    if (this.holdsSentences) this.releaseSentences();
    else this.releaseAll();
  }
}
