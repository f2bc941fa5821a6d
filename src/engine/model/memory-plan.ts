/** The plan of a GPU's memory, before the model is loaded. */
import { join } from 'node:path';
import { type Architecture, ofLayer, stateWidth } from './architecture.js';
import { blocksOf, bytesPerPosition, stateBytes } from './memory.js';
import { graphFiles, type ModelLimits } from './graphs.js';
import type { Manifest, StageKernel } from './manifest.js';
import { type ExternalTensor, externalTensors } from './onnx-weights.js';

/** Bytes by use. */
export interface MemoryPlan {
  readonly weights: number;
  /** KV caches and stored hidden states: `--kv-memory`, a page for filled batches, and the states of a batch. */
  readonly kv: number;
  /** Logits of all rows, and the arena of intermediate results at the largest step. */
  readonly scratch: number;
}

/** An arena that grows in powers of two takes up to a quarter more than it holds, over the fakes. */
const ARENA_GROWTH = 1.25;

export function memoryPlan(
  dir: string,
  manifest: Manifest,
  kernels: readonly StageKernel[],
  limits: Omit<PagedLimits, 'slots' | 'capacity'>,
): MemoryPlan {
  const { architecture } = manifest;
  const { vocab, layers } = architecture;
  const { page, pages, maxRows } = limits;
  const tokens = mostTokens(limits);
  const stores = 1 + manifest.stages.length + blocksOf(manifest).length;
  // States, products of attention with its copies of queries and keys, gate and up with their product, all in f16.
  const widths = Array.from({ length: layers }, (_, layer) => {
    const { heads, kvHeads, headDim, ffn } = ofLayer(architecture, layer);
    return 3 * stateWidth(architecture) + 2 * (heads + 2 * kvHeads) * headDim + 3 * ffn;
  });
  const stage = tokens * 2 * Math.max(...widths);
  // Logits in f16, and four forms of them in f32 where tokens are sampled.
  const choice = maxRows * vocab * (2 + 4 * 4);
  return {
    weights: weightBytes([...new Set(graphFiles(manifest, kernels))].map((file) => join(dir, file))),
    kv: (pages + 1) * page * bytesPerPosition(manifest) + stores * (tokens + 1) * stateBytes(manifest),
    scratch: maxRows * vocab * 4 + Math.ceil(ARENA_GROWTH * Math.max(stage, choice)),
  };
}

/**
 * @param kvMemory `--kv-memory`, of which a sequence needs `least`
 * @throws Error that names what fits, if the plan is larger than the free memory of the device
 */
export function checkPlan(
  { weights, kv, scratch }: MemoryPlan,
  freeBytes: number | null,
  kvMemory: number,
  least: number,
): void {
  const all = weights + kv + scratch;
  if (freeBytes === null || all <= freeBytes) return;
  const fits = kvMemory - (all - freeBytes);
  const remedy =
    fits >= least
      ? `--kv-memory ${Math.floor(fits / 2 ** 20)}MiB fits`
      : 'no --kv-memory fits; convert with --kernels w4a16, or lower --max-running and --prefill-chunk';
  throw new Error(
    `--device cuda: weights take ${gibibytes(weights)}, KV cache and states ${gibibytes(kv)}, the largest step ${gibibytes(scratch)}, ` +
      `and the device has ${gibibytes(freeBytes)} free; ${remedy}`,
  );
}

/**
 * Weights on the device: each once, those that a product packs anew once more beside the form that another graph reads.
 */
function weightBytes(graphs: readonly string[]): number {
  const tensors = graphs.flatMap((file) => externalTensors(file));
  const packed = /\.weight_q[48]$/;
  const seen = new Set<string>();
  let bytes = 0;
  for (const tensor of tensors) {
    if (!seen.has(tensor.name) || packed.test(tensor.name)) bytes += onGpu(tensor);
    seen.add(tensor.name);
  }
  return bytes;
}

/** Scales are products of codes and units, in f16. */
function onGpu({ name, dims, length }: ExternalTensor): number {
  if (name.endsWith('.units')) return 0;
  return name.endsWith('.codes') ? 2 * dims.reduce((a, b) => a * b, 1) : length;
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

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
export function pagePositions(arch: Architecture, device: 'cuda' | 'webgpu'): number {
  if (device === 'webgpu') return 64;
  const headDim = Math.min(...arch.pattern.map((kind) => kind.headDim ?? arch.headDim));
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
