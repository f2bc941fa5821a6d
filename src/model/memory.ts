/** Bytes of a position in a model's KV caches and stored hidden states. Pure. */
import { type ElementType, elementBytes } from '../runtime/tensor.js';
import type { Manifest } from './manifest.js';

/** Most bytes of one position of a sequence: the KV cache of all layers, the largest exit block, hidden states. */
export function bytesPerPosition(manifest: Manifest): number {
  const blocks = blockLayers(manifest);
  const kept = blocks.filter((layers) => layers > 0).length;
  return (trunkLayers(manifest) + Math.max(...blocks)) * layerBytes(manifest) + kept * stateBytes(manifest);
}

/** Bytes of one position on a device that commits memory at allocation: all KV caches and hidden states. */
export function allocatedPerPosition(manifest: Manifest): number {
  const layers = blockLayers(manifest).reduce((a, b) => a + b, trunkLayers(manifest));
  return layers * layerBytes(manifest) + keptBoundaries(manifest).size * stateBytes(manifest);
}

/** CUDA's Gather counts the elements of its input in 32 bits. */
const MOST_ELEMENTS = 2 ** 31 - 1;

/**
 * Most pages whose KV caches, and whose store of hidden states, are each one buffer that kernels can index.
 * @param page positions of a page
 * @param maxTokens most positions of a batch
 * @param trunk GPU of each stage
 */
export function mostPages(
  manifest: Manifest,
  page: number,
  maxTokens: number,
  trunk: readonly number[],
  maxBufferBytes: number,
): number {
  const { kvHeads, headDim, hidden } = manifest.architecture;
  const elements = Math.min(MOST_ELEMENTS, maxBufferBytes / elementBytes(manifest.floatType));
  const { boundaries, blocks } = storeRegions(manifest, trunk);
  const ofStores = [...new Set(trunk)].map((card) => {
    const own = [...boundaries, ...blocks].filter((region) => region.card === card);
    const kept = own.filter(({ isPaged }) => isPaged).length;
    // A later GPU has rows for the states that it receives; each has a spare one.
    const batchRows = maxTokens * (own.length - kept + (card > 0 ? 1 : 0)) + 1;
    return kept === 0 ? Infinity : (elements / hidden - batchRows) / (page * kept);
  });
  return Math.floor(Math.min(elements / (page * kvHeads * headDim), ...ofStores));
}

/** A region of the store of hidden states. */
export interface StoreRegion {
  /** The GPU whose units write it. */
  readonly card: number;
  /** Whether it has a row for each position of each page; otherwise one for each position of a batch. */
  readonly isPaged: boolean;
}

/** The regions of all boundaries and of all blocks. @param trunk GPU of each stage */
export function storeRegions(
  manifest: Manifest,
  trunk: readonly number[],
): { readonly boundaries: readonly StoreRegion[]; readonly blocks: readonly StoreRegion[] } {
  const kept = keptBoundaries(manifest);
  /** The embedding writes boundary 0, on the first GPU. */
  const cardAt = (boundary: number): number => (boundary === 0 ? 0 : (trunk[boundary - 1] ?? NaN));
  return {
    boundaries: [null, ...manifest.stages].map((_, boundary) => ({
      card: cardAt(boundary),
      isPaged: boundary > 0 && kept.has(boundary),
    })),
    blocks: manifest.exits.flatMap(({ block }) =>
      block === null ? [] : { card: cardAt(block.boundary), isPaged: false },
    ),
  };
}

/** Boundaries with hidden states that a stage or a block may need later; the first stage recomputes embeddings. */
export function keptBoundaries({ stages, exits }: Pick<Manifest, 'stages' | 'exits'>): ReadonlySet<number> {
  return new Set([
    ...[...stages.keys()].slice(1),
    ...exits.flatMap(({ block }) => (block === null ? [] : [block.boundary])),
  ]);
}

/** Bytes of one hidden state. */
export function stateBytes({ architecture, floatType }: Manifest): number {
  return architecture.hidden * elementBytes(floatType);
}

/** Element type of the KV cache. */
export function kvElement({ kvType, floatType }: Manifest): ElementType {
  return kvType ?? floatType;
}

function trunkLayers({ stages }: Manifest): number {
  return stages.reduce((sum, stage) => sum + stage.layers, 0);
}

/** Layers of each exit's block. */
function blockLayers({ exits }: Manifest): number[] {
  return exits.map(({ block }) => block?.layers ?? 0);
}

/** Bytes of keys and values of one position in one layer. */
export function layerBytes(manifest: Manifest): number {
  const { kvHeads, headDim } = manifest.architecture;
  return 2 * kvHeads * headDim * elementBytes(kvElement(manifest));
}
