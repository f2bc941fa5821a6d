/** An answer's text, as far as landings need it. Must not know: budgets, logits. */
import { Place } from './place.js';

export class TextState {
  /** Behind the last token that was read. */
  readonly place = new Place();
  /** Tokens of prompt and answer that were read. */
  read = 0;
  /** Tokens since the text could end. */
  tokens = 0;
  /** The text could not end so far. */
  isFirst = true;
  /** The text could end behind the last token. */
  couldEnd = false;
  /** SentenceTokens has learnt that these tokens are more than it expected. */
  exceeds = false;
  /** The last token belongs to thoughts, and no text to the answer's own. */
  isThinking = false;
  /** The deadline closed the thoughts. */
  hasLandedThoughts = false;
}

/** The amount on the logits of the end tokens for one token of an answer. */
export interface EndPressure {
  readonly amount: number;
  /** Whether the model's preferred next token shows that the sentence goes on, and lifts the pressure. Null: none does. */
  readonly isLifted: ((next: number) => boolean) | null;
}
