/** What is said between the engine's thread and the thread of grammars. */
import type { Grammar } from '../protocol.js';

export interface GrammarThreadData {
  /** Path of the model's tokenizer.json. */
  readonly tokenizer: string;
  /** The token that may come where a text is complete. */
  readonly end: number;
}

export type ToGrammars =
  | {
      readonly type: 'open';
      readonly id: string;
      readonly grammar: Grammar;
      /** What came before, where another thread had it. */
      readonly tokens: readonly number[];
    }
  | { readonly type: 'accept'; readonly id: string; readonly token: number }
  | { readonly type: 'close'; readonly id: string };

/** One answer to each `open` and `accept`, in order. */
export type GrammarAnswer =
  | {
      readonly type: 'next';
      readonly id: string;
      /** Null: nothing may come any more. */
      readonly mask: Uint8Array | null;
      /** Whether the mask must be kept to (constraint.ts). */
      readonly enforced: boolean;
    }
  | {
      readonly type: 'invalid';
      readonly id: string;
      /** Meant for the caller. */
      readonly message: string;
      /** Index of the function that is wrong, or null. */
      readonly part: number | null;
    };

export type FromGrammars =
  | GrammarAnswer
  /** First of all, unasked. */
  | { readonly type: 'loaded' }
  | {
      /** The library broke down instead: the thread does nothing more, and must be ended. */
      readonly type: 'crashed';
      /** For the log. */
      readonly message: string;
    };
