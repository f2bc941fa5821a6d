/**
 * Hidden states on a GPU: a buffer of rows for each boundary and for each exit block, so that the number of boundaries
 * bounds no length. The rows that the head reads are collected from them.
 */
import type { Gpu } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import { Session } from '../runtime/session.js';
import { type ElementType, Tensor } from '../runtime/tensor.js';
import type { Manifest } from './manifest.js';
import { keptBoundaries, stateBytes } from './memory.js';
import { DATA_TYPE, encodeModel } from './onnx-proto.js';

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
    return this.#gpu.at(this.memory, [rows, this.#manifest.architecture.hidden], this.#manifest.floatType);
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
    blocks: manifest.exits.flatMap(({ block }) => (block === null ? [] : store(false))),
  };
}

/** The session of `collectGraph`. */
export function openCollector({ environment, device }: GpuTensors, manifest: Manifest): Session {
  return new Session(environment, device, collectGraph(manifest), { weights: new Map(), accumulateInt32: false });
}

/**
 * store [R,H], rows i64 [n], states [N,H], places i64 [n,1] -> collected [N,H], bound to the memory of states: writes rows
 * of a store to places. Versions are those of the converter's graphs.
 */
function collectGraph({ floatType }: Manifest): Uint8Array {
  const value = (name: string, type: keyof typeof DATA_TYPE, dims: readonly (string | number)[]) => ({
    name,
    type: {
      tensor_type: {
        elem_type: DATA_TYPE[type],
        shape: { dim: dims.map((dim) => (typeof dim === 'number' ? { dim_value: dim } : { dim_param: dim })) },
      },
    },
  });
  const node = (op: string, input: string[], output: string) => ({
    ...{ name: op, op_type: op, domain: '', input, output: [output] },
    attribute: [],
  });
  return encodeModel({
    ir_version: 10,
    producer_name: 'sortie',
    opset_import: [{ domain: '', version: 21 }],
    graph: {
      name: 'collect',
      node: [node('Gather', ['store', 'rows'], 'taken'), node('ScatterND', ['states', 'places', 'taken'], 'collected')],
      initializer: [],
      input: [
        value('store', floatType, ['R', 'H']),
        value('rows', 'i64', ['n']),
        value('states', floatType, ['N', 'H']),
        value('places', 'i64', ['n', 1]),
      ],
      output: [value('collected', floatType, ['N', 'H'])],
    },
  });
}
