/**
 * The parts of the grammar library in use: its parser, and the model's vocabulary in its format. Its own types do not
 * resolve under Node's module rules.
 *
 * Must not know: threads, sequences.
 */
import * as llguidance from 'transformers-llguidance';
import type { TokenBytes } from '../../gateway/text/token-bytes.js';
import type { LibraryGrammar } from './library.js';

/** Its methods throw strings. */
export interface Parser {
  reset(grammar: LibraryGrammar): void;
  advance(token: number): void;
  /** Whether no token may come. */
  isComplete(): boolean;
  /** By token id: 1 for a token that may come next. */
  getTokenMask(): Uint8Array;
}

/** The part of the library's tokenizer data in use. */
interface GrammarVocabulary {
  /** Ids by spelling. */
  readonly vocab: Readonly<Record<string, number>>;
  /** Tokens that are not text. */
  readonly added_tokens: readonly { readonly id: number; readonly content: string; readonly special: true }[];
  readonly eos_token_id: number;
}

export const { GuidanceParser } = llguidance as unknown as {
  GuidanceParser: { create(grammar: LibraryGrammar, vocabulary: GrammarVocabulary): Promise<Parser> };
};

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
