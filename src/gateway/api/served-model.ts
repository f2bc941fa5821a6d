/**
 * The model as clients see it: name, exits, vocabulary and chat template.
 *
 * Must not know: files, weights, requests.
 */
import type { ChatTemplate } from '../text/chat-template.js';
import type { ExitEntry, Generation } from '../../engine/model/manifest.js';
import type { TextTokenizer } from '../text/tokenizer.js';

export interface ServedModel {
  /** The first name, which metrics and the log have. */
  readonly name: string;
  /** Further names that requests may use; absent: none. */
  readonly aliases?: readonly string[];
  /** Unix seconds. */
  readonly created: number;
  readonly licence: string;
  /** Shallowest first; the last is full depth. */
  readonly exits: readonly Pick<ExitEntry, 'layer' | 'quality' | 'dry'>[];
  /** Layers of a loop, whose number names the exit of a looped model; absent: layers name the exits. */
  readonly loopLayers?: number;
  /** Sampling defaults of the manifest; empty without any. */
  readonly generation: Generation;
  readonly context: number;
  /** Ids that end an answer. */
  readonly eosTokens: readonly number[];
  readonly tokenizer: TextTokenizer;
  /** The tokenizer's file, which the encoding thread reads again. */
  readonly tokenizerFile: string;
  /** Null for a model without a chat template, whose chat requests are rejected. */
  readonly chat: ChatTemplate | null;
}
