/**
 * The model's vocabulary as the grammar library wants it: a string for each token that stands for its bytes.
 *
 * Knows: the library's spelling. Must not know: threads, sequences.
 */
import type { TokenBytes } from '../../text/token-bytes.js';

/** What is used of the library's tokenizer data. */
export interface GrammarVocabulary {
  /** Ids by spelling. */
  readonly vocab: Readonly<Record<string, number>>;
  /** Tokens that are no text. */
  readonly added_tokens: readonly { readonly id: number; readonly content: string; readonly special: true }[];
  readonly eos_token_id: number;
}

/**
 * The library reads U+0100 + b as the byte b and anything else as UTF-8, so every byte sequence can be said, also parts
 * of characters. ASCII stands for itself: U+010B is read as a tab.
 */
function spelling(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCodePoint(byte < 0x80 ? byte : 0x100 + byte)).join('');
}

/** @param end the token that may come where a text is complete */
export function grammarVocabulary({ bytes, special }: TokenBytes, end: number): GrammarVocabulary {
  const name = (id: number): string => `<|${id}|>`;
  const vocab = new Map<string, number>();
  bytes.forEach((token, id) => {
    if (token !== undefined) vocab.set(special.has(id) ? name(id) : spelling(token), id);
  });
  return {
    // Not by assignment: a token may be spelt as what an object inherits.
    vocab: Object.fromEntries(vocab),
    added_tokens: [...special].map((id) => ({ id, content: name(id), special: true })),
    eos_token_id: end,
  };
}
