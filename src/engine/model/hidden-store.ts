/**
 * Hidden states on a GPU: a buffer of rows for each boundary and for each exit block, so that the number of boundaries
 * bounds no length. The rows that the head reads are collected from them.
 */
import type { Gpu } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import { Session } from '../runtime/session.js';
import { type ElementType, Tensor } from '../runtime/tensor.js';
import { blocksOf, keptBoundaries, stateBytes } from './memory.js';
import { stateWidth } from './architecture.js';
import type { Manifest } from './manifest.js';
import { Graph } from './onnx-graph.js';

export class HiddenStore {
  readonly memory: bigint;
  /** Rows of positions. A row behind them is read by no graph: positions without a sequence write it. */
  readonly rows: number;
  /** Whether a position's row follows from its page; otherwise from its place in the batch. */
  readonly isPaged: boolean;
  readonly #gpu: GpuTensors;
  readonly #manifest: Manifest;

  constructor(gpu: GpuTensors, manifest: Manifest, rows: number, isPaged: boolean) {
    this.rows = rows;
    this.isPaged = isPaged;
    this.#gpu = gpu;
    this.#manifest = manifest;
    this.memory = gpu.device.alloc((rows + 1) * stateBytes(manifest));
  }

  /** The first rows, or all. */
  tensor(rows = this.rows + 1): Tensor {
    return this.#gpu.at(this.memory, [rows, stateWidth(this.#manifest.architecture)], this.#manifest.floatType);
  }
}

/** Tensors over memory of a GPU. */
export class GpuTensors {
  constructor(
    readonly environment: Environment,
    readonly device: Gpu,
  ) {}

  at(memory: bigint, dims: readonly number[], type: ElementType): Tensor {
    return new Tensor(this.environment, this.device.memoryInfo, memory, dims, type);
  }
}

/**
 * Reserves the stores of all boundaries and of all blocks; boundary 0 holds embeddings.
 * @param positions positions of all pages, and of the largest batch
 */
export function openStores(
  gpu: GpuTensors,
  manifest: Manifest,
  { paged, batch }: { readonly paged: number; readonly batch: number },
): { readonly boundaries: readonly HiddenStore[]; readonly blocks: readonly HiddenStore[] } {
  const kept = keptBoundaries(manifest);
  const store = (isPaged: boolean): HiddenStore => new HiddenStore(gpu, manifest, isPaged ? paged : batch, isPaged);
  return {
    boundaries: [null, ...manifest.stages].map((_, boundary) => store(boundary > 0 && kept.has(boundary))),
    blocks: blocksOf(manifest).map(() => store(false)),
  };
}

/**
 * The session of a graph that writes rows of a store to places among the states: store [R,H], rows i64 [n], states
 * [N,H], places i64 [n,1] -> collected [N,H]. Both states and result are bound to the same memory.
 */
export function openCollector({ environment, device }: GpuTensors, { floatType }: Manifest): Session {
  const graph = new Graph('collect');
  graph.input('store', floatType, ['R', 'H']);
  graph.input('rows', 'i64', ['n']);
  graph.input('states', floatType, ['N', 'H']);
  graph.input('places', 'i64', ['n', 1]);
  graph.output('collected', floatType, ['N', 'H']);
  graph.node('ScatterND', ['states', 'places', graph.node('Gather', ['store', 'rows'], ['taken'])], ['collected']);
  return new Session(environment, device, graph.encode(), { weights: new Map(), accumulateInt32: false });
}
