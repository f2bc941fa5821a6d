/** A unit of a paged model, and the batches that it runs. */
import type { Gpu } from '../runtime/device.js';
import type { BindingSpec, BindingCache } from '../runtime/session.js';
import type { ElementType, hostI32, Tensor } from '../runtime/tensor.js';
import type { BatchPart, BatchShape, Control } from './control.js';
import type { ModelUnit } from './graphs.js';
import type { GpuTensors, HiddenStore } from './hidden-store.js';
import { cacheOfLayers } from './memory.js';
import { isCaptured, type StageKernel } from './manifest.js';

export interface PagedUnit extends ModelUnit {
  /** Stores of the states that the unit reads and writes. */
  readonly source: HiddenStore;
  readonly target: HiddenStore;
  /** Number of the unit's first captured graph: loops share a session, and each captures graphs of its own. */
  readonly firstGraph: number;
  /** K and V of KV cache i are buffers 2i and 2i + 1. */
  readonly buffers: readonly bigint[];
  /** KV heads and head size of each cache. */
  readonly heads: readonly (readonly [number, number])[];
  readonly control: Control;
  /**
   * The longest part, the longest sequence, and a length that the longest sequence has at least, in main memory: the
   * provider reads them before it starts the kernels.
   */
  readonly bounds: ReturnType<typeof hostI32>;
  readonly bindings: BindingCache;
}

/**
 * Tensors over a unit's KV caches, k_0, v_0, k_1 ..., or k_out_0 ... for the suffix `_out`.
 * @param dimsOf dimensions of a cache's buffers
 * @param caches the cache of each number; absent: each has its own
 */
export function cacheTensors(
  { entry, buffers }: Pick<PagedUnit, 'entry' | 'buffers'>,
  suffix: '' | '_out',
  { gpu, type }: Pick<PagedMemory, 'gpu' | 'type'>,
  dimsOf: (cache: number) => readonly number[],
  caches: readonly number[] = Array.from({ length: entry.layers }, (_, cache) => cache),
): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {};
  for (const [layer, cache] of caches.entries())
    for (const [i, part] of ['k', 'v'].entries()) {
      const buffer = buffers[2 * cache + i];
      if (buffer === undefined) throw new RangeError(`layer ${layer} of ${entry.name} has no KV cache`);
      tensors[`${part}${suffix}_${layer}`] = gpu.at(buffer, dimsOf(cache), type);
    }
  return tensors;
}

/** Memory that the runs of all units share. */
export interface PagedMemory {
  readonly gpu: GpuTensors;
  /** Pages of each KV buffer, and positions of a page. */
  readonly pages: readonly [pages: number, page: number];
  readonly type: ElementType;
  /** Rows 0, 1, 2 ... of stores without pages. */
  readonly places: bigint;
}

/** The tensors of a stage graph, over a batch on the device. The caller disposes them. */
export function unitTensors(
  unit: PagedUnit,
  control: Control,
  { tokens, parts, pages }: BatchShape,
  memory: PagedMemory,
): BindingSpec {
  const { source, target, bounds, entry } = unit;
  const { gpu, places } = memory;
  const dimsOf = (cache: number): readonly number[] => [...memory.pages, ...(unit.heads[cache] ?? [])];
  const rowsOf = ({ isPaged }: HiddenStore): bigint => (isPaged ? control.rows : places);
  return {
    hostInputs: { bounds: bounds.tensor(gpu.environment, [3]) },
    inputs: {
      store: source.tensor(),
      next: target.tensor(),
      rows_in: gpu.at(rowsOf(source), [tokens], 'i64'),
      rows_out: gpu.at(rowsOf(target), [tokens, 1], 'i64'),
      cumulative: gpu.at(control.cumulative, [parts + 1], 'i32'),
      pasts: gpu.at(control.pasts, [parts], 'i32'),
      table: gpu.at(control.table, [parts, pages], 'i32'),
      ...cacheTensors(unit, '', memory, dimsOf),
    },
    outputs: { next_out: target.tensor(), ...cacheTensors(unit, '_out', memory, dimsOf, cacheOfLayers(entry)) },
  };
}

/** Beyond this length the provider splits the sequences of a decode batch among more blocks of the GPU. */
const SPLIT_LENGTH = 512;
/**
 * Writes the bounds of a batch.
 * @param capacity most positions of a sequence
 * @returns whether its longest sequence is beyond `SPLIT_LENGTH`
 */
export function writeBounds(
  { bounds }: PagedUnit,
  parts: readonly BatchPart[],
  isGraph: boolean,
  capacity: number,
): boolean {
  let most = 0;
  let longest = 0;
  for (const { past, count } of parts) {
    most = Math.max(most, count);
    longest = Math.max(longest, past + count);
  }
  const isLong = longest > SPLIT_LENGTH;
  // The bounds of a captured graph hold for all batches that it replays.
  if (isGraph) bounds.data.set([1, capacity, isLong ? SPLIT_LENGTH + 1 : 1]);
  else bounds.data.set([most, longest, longest]);
  return isLong;
}

/** Positions and parts of a batch. */
export function sizesOf(parts: readonly BatchPart[]): Omit<BatchShape, 'pages'> {
  let tokens = 0;
  for (const { count } of parts) tokens += count;
  return { tokens, parts: parts.length };
}

/** Reserves the rows 0 to count - 1, i64. */
export function openPlaces(device: Gpu, count: number): bigint {
  const memory = device.alloc(count * 8);
  const rows = BigInt64Array.from({ length: count }, (_, i) => BigInt(i));
  device.upload([{ target: memory, source: new Uint8Array(rows.buffer) }]);
  return memory;
}

/** Whether a captured graph runs the batch: one of decoding, whose shapes come back. */
export function isReplayed(kernel: StageKernel, parts: readonly BatchPart[]): boolean {
  return isCaptured(kernel) && parts.every(({ count }) => count === 1);
}
