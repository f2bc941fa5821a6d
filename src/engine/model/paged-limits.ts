/** Sizes of a model whose KV cache has pages. */
import type { ModelLimits } from './graphs.js';

/** Positions of prompts that a unit runs together, at least: with fewer a GPU waits for the weights. */
const BATCH = 256;

/** Most sequences in a run: the limit of the CUDA provider's PagedAttention. */
export const MOST_PARTS = 256;

/**
 * Positions of a page of the KV cache.
 *
 * CUDA: the least with which the provider takes FlashAttention, which reads a tile of so many positions from one page.
 * With smaller pages it takes slower kernels, and copies whole contexts. WebGPU: a power of two, at least 32, below
 * which its prefill kernel is wrong; small pages share more of a prefix.
 */
export function pagePositions(headDim: number, device: 'cuda' | 'webgpu'): number {
  if (device === 'webgpu') return 64;
  if (headDim <= 64) return 256;
  return headDim <= 128 ? 128 : 64;
}

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
