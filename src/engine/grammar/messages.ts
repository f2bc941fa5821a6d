/** Messages between the engine's main thread and the grammar thread. */
import type { Grammar } from '../../protocol/index.js';

export interface GrammarThreadData {
  /** Path of the model's tokenizer.json. */
  readonly tokenizer: string;
  /** End token that masks allow at the end of a complete text. */
  readonly end: number;
}

export type ToGrammars =
  | {
      readonly type: 'open';
      readonly id: string;
      readonly grammar: Grammar;
      /** Accepted tokens, if another thread had the session before. */
      readonly tokens: readonly number[];
    }
  | { readonly type: 'accept'; readonly id: string; readonly token: number }
  | { readonly type: 'close'; readonly id: string };

/** One answer to each `open` and `accept`, in order. */
export type GrammarAnswer =
  | {
      readonly type: 'next';
      readonly id: string;
      /** Null: no token may come. */
      readonly mask: Uint8Array | null;
      /** Whether the mask is binding (constraint.ts). */
      readonly enforced: boolean;
    }
  | {
      readonly type: 'invalid';
      readonly id: string;
      /** Meant for the client. */
      readonly message: string;
      /** Index of the function with the fault, or null. */
      readonly part: number | null;
    };

export type FromGrammars =
  | GrammarAnswer
  /** Sent first. `thread`: the kernel's number of the thread; null where the system does not tell. */
  | { readonly type: 'begun'; readonly thread: number | null }
  /** Sent once, before all answers. */
  | { readonly type: 'loaded' }
  | {
      /** The library crashed instead of answering: the thread does nothing more and must be terminated. */
      readonly type: 'crashed';
      /** For the log. */
      readonly message: string;
    };
