/**
 * The converter's view of a source model: an architecture, a tokenizer, and rows of named weights. All formats map
 * their tensor names to those of Hugging Face.
 */
import type { Architecture } from '../engine/model/architecture.js';
import type { Generation } from '../engine/model/manifest.js';
import type { Recipes } from './architectures/recipe.js';
import type { Tensors } from './tensors.js';

/** Text files of a model folder, and the token ids that the engine needs. */
export interface SourceTokenizer {
  /** Content of tokenizer.json for @huggingface/tokenizers. */
  json: string;
  chatTemplate: string | null;
  bosToken: number | null;
  eosTokens: number[];
}

/** A recommended sampling value. */
export interface SourceSampling {
  readonly field: keyof Generation;
  /** File and key, for warnings. */
  readonly origin: string;
  readonly value: unknown;
}

/** The weights of a prompt exit. A layer's names are those of the trunk. */
export interface PromptSource extends Tensors {
  /** Layers that prompt tokens run. */
  readonly exit: number;
  /** Neighbouring deeper layers that share keys and values, counted from the exit. */
  readonly group: number;
}

/** Its names leave out tensors that follow from the architecture. */
export interface ModelSource extends Tensors {
  readonly architecture: Architecture;
  /** How the tensors of an exit block are read, which are always those of Hugging Face. */
  readonly blocks: Pick<Recipes, 'layer' | 'norm'>;
  /** Exit blocks in the source itself, by the names of exit-blocks.ts; null for none. */
  readonly ownBlocks: (Tensors & { readonly file: string }) | null;
  /** The model's prompt exit; null without one. */
  readonly prompt: PromptSource | null;
  /** Weights [H] of a looped model's gate and then its bias; null for a model without one. */
  readonly gate: Float32Array | null;
  /** Published right answers by loop (Family.loopAccuracy); null for none. */
  readonly loopAccuracy: readonly number[] | null;
  readonly tokenizer: SourceTokenizer;
  readonly name: string;
  /** SPDX id, or "unknown". */
  readonly licence: string;
  readonly origin: string;
  /** Sampling values that the source recommends, each with the name that the source gives it. */
  readonly sampling: readonly SourceSampling[];
  /** Exits that the source itself declares. */
  readonly exits: readonly number[] | null;
  readonly close: () => void;
}
