/** An answer's text, as far as landings need it. Must not know: budgets, logits. */
import { SentenceScanner } from '../../gateway/text/sentences/sentence-scanner.js';

export class TextState {
  /** Behind the last token that was read. */
  readonly place = new SentenceScanner();
  /** The deadline closed the thoughts. */
  hasLandedThoughts = false;
}

/** The amount on the logits of the end tokens for one token of an answer. */
export interface EndPressure {
  readonly amount: number;
  /**
   * Whether the model's preferred next token shows that the sentence goes on, and lifts the pressure. Null: none does.
   */
  readonly isLifted: ((next: number) => boolean) | null;
}
