/**
 * The model's vocabulary in the grammar library's format: a string per token that encodes its bytes.
 *
 * Must not know: threads, sequences.
 */
import type { TokenBytes } from '../../gateway/text/token-bytes.js';

/** The part of the library's tokenizer data in use. */
export interface GrammarVocabulary {
  /** Ids by spelling. */
  readonly vocab: Readonly<Record<string, number>>;
  /** Tokens that are not text. */
  readonly added_tokens: readonly { readonly id: number; readonly content: string; readonly special: true }[];
  readonly eos_token_id: number;
}

/**
 * The library reads U+0100 + b as the byte b, and any other character as UTF-8. So every byte sequence has a spelling,
 * including parts of characters. ASCII stays as it is, because the library reads U+010B as a tab.
 */
function spelling(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCodePoint(byte < 0x80 ? byte : 0x100 + byte)).join('');
}

/** @param end end token that masks allow at the end of a complete text */
export function grammarVocabulary({ bytes, special }: TokenBytes, end: number): GrammarVocabulary {
  const name = (id: number): string => `<|${id}|>`;
  const vocab = new Map<string, number>();
  bytes.forEach((token, id) => {
    if (token !== undefined) vocab.set(special.has(id) ? name(id) : spelling(token), id);
  });
  return {
    // Object.fromEntries, not assignment: a token may be spelt like an inherited property.
    vocab: Object.fromEntries(vocab),
    added_tokens: [...special].map((id) => ({ id, content: name(id), special: true })),
    eos_token_id: end,
  };
}
