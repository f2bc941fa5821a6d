/** The part of the grammar library in use: its own types do not resolve under Node's module rules. */
import * as llguidance from 'transformers-llguidance';
import type { LibraryGrammar } from './library.js';
import type { GrammarVocabulary } from './vocabulary.js';

/** Its methods throw strings. */
export interface Parser {
  reset(grammar: LibraryGrammar): void;
  advance(token: number): void;
  /** Whether no token may come. */
  isComplete(): boolean;
  /** By token id: 1 for a token that may come next. */
  getTokenMask(): Uint8Array;
}

export const { GuidanceParser } = llguidance as unknown as {
  GuidanceParser: { create(grammar: LibraryGrammar, vocabulary: GrammarVocabulary): Promise<Parser> };
};
