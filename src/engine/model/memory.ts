/** Bytes of a position in a model's KV caches and stored hidden states. Pure. */
import { elementBytes } from '../runtime/tensor.js';
import type { Manifest } from './manifest.js';

/** Bytes of one position of a sequence: in all KV caches and hidden states. */
export function bytesPerPosition(manifest: Manifest): number {
  const layers = [...manifest.stages, ...blocksOf(manifest)].reduce((sum, unit) => sum + unit.layers, 0);
  return layers * layerBytes(manifest) + keptBoundaries(manifest).size * stateBytes(manifest);
}

/** CUDA's Gather counts the elements of its input in 32 bits. */
const MOST_ELEMENTS = 2 ** 31 - 1;

/**
 * Most pages whose KV caches, and whose hidden states of each boundary, are each one buffer that kernels can index.
 * @param page positions of a page
 */
export function mostPages(manifest: Manifest, page: number, maxBufferBytes: number): number {
  const { kvHeads, headDim, hidden } = manifest.architecture;
  const elements = Math.min(MOST_ELEMENTS, maxBufferBytes / elementBytes(manifest.floatType));
  const states = keptBoundaries(manifest).size > 0 ? (elements / hidden - 1) / page : Infinity;
  return Math.floor(Math.min(elements / (page * kvHeads * headDim), states));
}

/** Boundaries with hidden states that a stage or a block may need later; the first stage recomputes embeddings. */
export function keptBoundaries(manifest: Pick<Manifest, 'stages' | 'exits'>): ReadonlySet<number> {
  return new Set([...[...manifest.stages.keys()].slice(1), ...blocksOf(manifest).map(({ boundary }) => boundary)]);
}

/** Bytes of one hidden state. */
export function stateBytes({ architecture, floatType }: Manifest): number {
  return architecture.hidden * elementBytes(floatType);
}

/** Bytes of keys and values of one position in one layer. */
export function layerBytes(manifest: Manifest): number {
  const { kvHeads, headDim } = manifest.architecture;
  return 2 * kvHeads * headDim * elementBytes(manifest.kvType);
}

/** The blocks of a model's exits, in its manifest as in its sessions. */
export function blocksOf<B>({ exits }: { readonly exits: readonly { readonly block: B | null }[] }): B[] {
  return exits.flatMap(({ block }) => block ?? []);
}
