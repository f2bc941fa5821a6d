/**
 * The hidden states on one GPU, in one store, and their way to the next GPU.
 *
 * Rows are numbered through the stores of all GPUs. The first rows of a later GPU's store hold states that the GPU before
 * it sends: it gathers them, and one copy brings them over. Nothing waits.
 */
import type { Gpu, Upload } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import { Session } from '../runtime/session.js';
import { elementBytes, type ElementType, Tensor } from '../runtime/tensor.js';
import { BindingCache, MAX_RANGES } from './binding-cache.js';
import type { Manifest } from './manifest.js';
import { stateBytes, storeRegions } from './memory.js';
import { DATA_TYPE, encodeModel } from './onnx-proto.js';

/** States that cross within a run: those that the next GPU's first stage reads, and those that the head reads. */
export type Crossing = 'stage' | 'head';

/** Rows of a store, by their number through all stores. */
export interface StoreRows {
  readonly first: number;
  readonly count: number;
}

/** Rows of a boundary's states, or of an exit block's. */
export interface Region {
  /** First row. */
  readonly base: number;
  readonly count: number;
  /** Whether a position's row follows from its page; otherwise from its place in the batch. */
  readonly isPaged: boolean;
}

/** @throws RangeError if there is none */
export function regionAt(regions: readonly Region[], index: number): Region {
  const region = regions[index];
  if (!region) throw new RangeError(`region ${index} does not exist`);
  return region;
}

/** So many rows of a region, again from its first one where it has fewer. */
export function rowsFrom({ base, count }: Region, rows: number): number[] {
  return Array.from({ length: rows }, (_, i) => base + (i % count));
}

/**
 * Lays all regions into stores.
 * @param trunk GPU of each stage
 * @param positions positions of all pages, and of the largest batch
 */
export function layStores(
  manifest: Manifest,
  trunk: readonly number[],
  positions: { readonly paged: number; readonly batch: number },
): {
  readonly boundaries: readonly Region[];
  readonly blocks: readonly Region[];
  readonly stores: readonly StoreRows[];
} {
  const wanted = storeRegions(manifest, trunk);
  const all = [...wanted.boundaries, ...wanted.blocks];
  const regions: Region[] = [];
  let rows = 0;
  const stores = [...new Set(trunk)].map((card) => {
    const first = rows;
    if (card > 0) rows += positions.batch;
    for (const [index, region] of all.entries()) {
      if (region.card !== card) continue;
      const count = region.isPaged ? positions.paged : positions.batch;
      regions[index] = { base: rows, count, isPaged: region.isPaged };
      rows += count;
    }
    return { first, count: rows - first };
  });
  const boundaries = regions.slice(0, wanted.boundaries.length);
  return { boundaries, blocks: regions.slice(wanted.boundaries.length), stores };
}

export class CardStore {
  readonly memory: bigint;
  readonly device: Gpu;
  readonly #rows: StoreRows;
  readonly #environment: Environment;
  readonly #manifest: Manifest;
  readonly #sender: ReturnType<typeof openSender> | null;

  /** @param mostSent most states of a crossing to the next GPU; 0 on the last GPU */
  constructor(environment: Environment, device: Gpu, manifest: Manifest, rows: StoreRows, mostSent: number) {
    this.device = device;
    this.#environment = environment;
    this.#manifest = manifest;
    this.#rows = rows;
    this.memory = device.alloc((rows.count + 1) * stateBytes(manifest));
    this.#sender = mostSent === 0 ? null : openSender(environment, device, manifest, mostSent);
  }

  /** The whole store. */
  tensor(): Tensor {
    return this.at(this.memory, [this.#rows.count + 1, this.#manifest.architecture.hidden], this.#manifest.floatType);
  }

  /** A tensor over memory of the same GPU. */
  at(memory: bigint, dims: readonly number[], type: ElementType): Tensor {
    return new Tensor(this.#environment, this.device.memoryInfo, memory, dims, type);
  }

  /** Rows as the store's own graphs count them. */
  own(rows: readonly number[]): readonly number[] {
    const { first } = this.#rows;
    return first === 0 ? rows : rows.map((row) => row - first);
  }

  /** A row, as the store's own graphs count them, that no graph reads: positions without a sequence write it. */
  get spareRow(): number {
    return this.#rows.count;
  }

  has(row: number): boolean {
    return row >= this.#rows.first && row < this.#rows.first + this.#rows.count;
  }

  /** Prepares the upload of the rows of a crossing, as the store's own graphs count them. */
  fill(crossing: Crossing, rows: readonly number[]): Upload {
    return { target: this.#sending.rows[crossing], source: new Uint8Array(BigInt64Array.from(rows, BigInt).buffer) };
  }

  /** Sends the filled rows to the first rows of the next GPU's store. */
  send(crossing: Crossing, count: number, next: CardStore): void {
    const { session, bindings, rows, states } = this.#sending;
    bindings.run(`${crossing}/${count}`, () =>
      session.bind({
        hostInputs: {},
        inputs: { store: this.tensor(), rows: this.at(rows[crossing], [count], 'i64') },
        outputs: { states: this.at(states, [count, this.#manifest.architecture.hidden], this.#manifest.floatType) },
      }),
    );
    next.device.receive(next.memory, this.device, states, count * stateBytes(this.#manifest));
  }

  dispose(): void {
    this.#sender?.dispose();
  }

  get #sending(): ReturnType<typeof openSender> {
    if (this.#sender === null) throw new RangeError('the last GPU sends no states');
    return this.#sender;
  }
}

/**
 * Plans how wanted rows of any stores reach the last one: each store sends its own and those that it has received.
 * @returns what each store sends, and the wanted rows as the last store counts them
 */
export function sendAll(
  stores: readonly CardStore[],
  wanted: readonly number[],
): {
  readonly sent: readonly { readonly store: CardStore; readonly rows: readonly number[] }[];
  readonly rows: number[];
} {
  const sent: { store: CardStore; rows: number[] }[] = [];
  /** Place of each received row, by its index in `wanted`. */
  let received = new Map<number, number>();
  for (const [card, store] of stores.entries()) {
    const own = store.own(wanted);
    const placeOf = (index: number): number => received.get(index) ?? own[index] ?? NaN;
    if (card === stores.length - 1) return { sent, rows: wanted.map((_, index) => placeOf(index)) };
    const all = [...received.keys(), ...wanted.keys()].filter(
      (index, at) => at < received.size || store.has(wanted[index] ?? NaN),
    );
    if (all.length > 0) sent.push({ store, rows: all.map(placeOf) });
    received = new Map(all.map((index, place) => [index, place]));
  }
  return { sent, rows: [] };
}

function openSender(environment: Environment, device: Gpu, manifest: Manifest, most: number) {
  const session = new Session(environment, device, gatherGraph(manifest), {
    weights: new Map(),
    accumulateInt32: false,
  });
  const bindings = new BindingCache(MAX_RANGES);
  const rowBytes = most * elementBytes('i64');
  const rows = { stage: device.alloc(rowBytes), head: device.alloc(rowBytes) };
  const states = device.alloc(most * stateBytes(manifest));
  const dispose = (): void => {
    bindings.dispose();
    session.dispose();
  };
  return { session, bindings, rows, states, dispose };
}

/** store [R,H], rows i64 [T] -> states [T,H]. Versions are those of the converter's graphs. */
function gatherGraph({ floatType }: Manifest): Uint8Array {
  const value = (name: string, type: keyof typeof DATA_TYPE, dims: readonly string[]) => ({
    name,
    type: { tensor_type: { elem_type: DATA_TYPE[type], shape: { dim: dims.map((dim) => ({ dim_param: dim })) } } },
  });
  const node = { name: 'gather', op_type: 'Gather', domain: '', input: ['store', 'rows'], output: ['states'] };
  return encodeModel({
    ir_version: 10,
    producer_name: 'sortie',
    opset_import: [{ domain: '', version: 21 }],
    graph: {
      name: 'gather',
      node: [{ ...node, attribute: [] }],
      initializer: [],
      input: [value('store', floatType, ['R', 'H']), value('rows', 'i64', ['T'])],
      output: [value('states', floatType, ['T', 'H'])],
    },
  });
}
