/** KV caches of units, and the bytes of a position in them and in stored hidden states. Pure. */
import { elementBytes } from '../runtime/tensor.js';
import { type Architecture, stateWidth } from './architecture.js';
import type { Manifest, StageEntry } from './manifest.js';

/** Bytes of one position of a sequence: in all KV caches and hidden states. */
export function bytesPerPosition(manifest: Manifest): number {
  const { architecture, kvType } = manifest;
  const caches = [...manifest.stages, ...blocksOf(manifest)].flatMap((unit) => cacheHeads(unit, architecture));
  const values = caches.reduce((sum, [heads, dim]) => sum + 2 * heads * dim, 0);
  return values * elementBytes(kvType) + keptBoundaries(manifest).size * stateBytes(manifest);
}

/** CUDA's Gather counts the elements of its input in 32 bits. */
const MOST_ELEMENTS = 2 ** 31 - 1;

/**
 * Most pages whose KV caches, and whose hidden states of each boundary, are each one buffer that kernels can index.
 * @param page positions of a page
 */
export function mostPages(manifest: Manifest, page: number, maxBufferBytes: number): number {
  const { architecture } = manifest;
  const elements = Math.min(MOST_ELEMENTS, maxBufferBytes / elementBytes(manifest.floatType));
  const states = keptBoundaries(manifest).size > 0 ? (elements / stateWidth(architecture) - 1) / page : Infinity;
  const caches = [...manifest.stages, ...blocksOf(manifest)].flatMap((unit) => cacheHeads(unit, architecture));
  const widest = Math.max(...caches.map(([heads, dim]) => heads * dim));
  return Math.floor(Math.min(elements / (page * widest), states));
}

/**
 * Boundaries with hidden states that a stage or a block may need later. The first stage recomputes embeddings. With one
 * exit, a block in slots runs right behind its boundary, and reads the states where the stage left them.
 */
export function keptBoundaries(manifest: Pick<Manifest, 'stages' | 'exits' | 'pages'>): ReadonlySet<number> {
  const { stages, exits, pages } = manifest;
  const blocks = exits.length === 1 && pages === undefined ? [] : blocksOf(manifest);
  return new Set([...[...stages.keys()].slice(1), ...blocks.map(({ boundary }) => boundary)]);
}

/** Bytes of one hidden state. */
export function stateBytes({ architecture, floatType }: Manifest): number {
  return stateWidth(architecture) * elementBytes(floatType);
}

/** KV heads and head size of each KV cache of a unit. */
export function cacheHeads({ layers, heads }: StageEntry, arch: Architecture): readonly (readonly [number, number])[] {
  return heads ?? Array.from({ length: layers }, () => [arch.kvHeads, arch.headDim] as const);
}

/** The KV cache of each layer of a unit's stage graph. */
export function cacheOfLayers({ layers, prompt }: Pick<StageEntry, 'layers' | 'prompt'>): readonly number[] {
  if (prompt === undefined) return Array.from({ length: layers }, (_, layer) => layer);
  return prompt.caches ?? Array.from({ length: prompt.layers }, (_, layer) => Math.floor(layer / prompt.group));
}

/** The blocks of a model's exits, in its manifest as in its sessions. */
export function blocksOf<B>({ exits }: { readonly exits: readonly { readonly block: B | null }[] }): B[] {
  return exits.flatMap(({ block }) => block ?? []);
}
