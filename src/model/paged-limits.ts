/** Sizes of a model whose KV cache has pages. */
import type { ModelLimits } from './graphs.js';

/** Positions of prompts that a unit runs together, at least: with fewer a GPU waits for the weights. */
const BATCH = 256;

/** Most sequences in a run: the limit of the CUDA provider's PagedAttention. */
export const MOST_PARTS = 256;

export interface PagedLimits extends ModelLimits {
  /** Pages of each KV buffer. */
  readonly pages: number;
  /** Positions of a page. */
  readonly page: number;
}

/** Most positions of a unit in a run: those of prompts, and one of each row. */
export function mostTokens({ maxChunk, maxRows }: Pick<ModelLimits, 'maxChunk' | 'maxRows'>): number {
  return Math.max(maxChunk, BATCH) + maxRows;
}

/** Most pages of a sequence. */
export function tablePages({ capacity, page }: PagedLimits): number {
  return Math.ceil(capacity / page);
}
