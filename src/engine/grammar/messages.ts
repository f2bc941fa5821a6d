/** What is said between the engine's thread and the thread of grammars. */

export interface GrammarThreadData {
  /** Path of the model's tokenizer.json. */
  readonly tokenizer: string;
  /** The token that may come where a text is complete. */
  readonly end: number;
}

export type ToGrammars =
  /** @property schema a JSON schema as text */
  | { readonly type: 'open'; readonly id: string; readonly schema: string }
  | { readonly type: 'accept'; readonly id: string; readonly token: number }
  | { readonly type: 'close'; readonly id: string };

/** One answer to each `open` and `accept`. */
export type FromGrammars =
  /** Null: nothing may come any more. */
  | { readonly type: 'next'; readonly id: string; readonly mask: Uint8Array | null }
  | { readonly type: 'wrong'; readonly id: string; readonly message: string };
