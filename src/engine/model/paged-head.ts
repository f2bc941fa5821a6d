/** Runs the head, select, argmax and lower graphs of a paged folder. One transfer brings the choices of a batch. */
import type { InputAreas } from '../runtime/device.js';
import { type Session, BindingCache, MAX_RANGES } from '../runtime/session.js';
import type { Tensor } from '../runtime/tensor.js';
import { intsOf, writeLongs } from './control.js';
import type { GraphLoader, ModelSource } from './graphs.js';
import type { Head, SelectedRow } from './head.js';
import { type GpuTensors, type HiddenStore, openCollector } from './hidden-store.js';
import { stateWidth } from './architecture.js';
import { stateBytes } from './memory.js';

/** A state that the head reads. */
export interface WantedRow {
  /** The unit that wrote it. */
  readonly unit: number;
  /** Row of the unit's store. */
  readonly row: number;
}

export class PagedHead implements Head {
  readonly inverseTemperatures: Float32Array;
  readonly targets: BigInt64Array;
  readonly argmaxIds: BigInt64Array;
  readonly #head: Session;
  readonly #select: Session;
  readonly #argmax: Session;
  readonly #lower: Session;
  readonly #collector: Session;
  readonly #bindings = new BindingCache(MAX_RANGES);
  readonly #memory: ReturnType<typeof allocate>;
  readonly #maxRows: number;
  /** Rows of the last run, and the amounts to take off their logits: [row, id, amount]. */
  #rows = 0;
  #penalties: [number, number, number][] = [];
  /** Results of the last `choose`, and all logits once a row of them was read. */
  #chosen = new Float32Array(0);
  #logits: Float32Array | null = null;
  readonly #source: Pick<ModelSource, 'manifest' | 'environment'>;
  readonly #gpu: GpuTensors;
  /** The store that each unit writes. */
  readonly #stores: readonly HiddenStore[];
  readonly #inputs: HeadInputs;
  /** Inverse temperatures and targets on the device. */
  readonly #drawing: InputAreas;
  /** Images of the inputs: norms, and for each unit the rows that it wrote and their places. */
  readonly #norms: Int32Array;
  readonly #wanted: readonly { readonly rows: Int32Array; readonly places: Int32Array }[];
  /** Wanted rows of each unit in the last batch. */
  readonly #counts: number[];

  /**
   * @param stores the store that each unit writes
   * @param inputs areas of `headSizes`, which the caller uploads
   */
  constructor(
    source: ModelSource,
    gpu: GpuTensors,
    graphs: GraphLoader,
    maxRows: number,
    stores: readonly HiddenStore[],
    inputs: HeadInputs,
  ) {
    const { manifest } = source;
    this.#source = source;
    this.#gpu = gpu;
    this.#stores = stores;
    this.#inputs = inputs;
    const { areas, first } = inputs;
    this.#norms = intsOf(areas, first);
    this.#wanted = stores.map((_, unit) => ({
      rows: intsOf(areas, first + 1 + 2 * unit),
      places: intsOf(areas, first + 2 + 2 * unit),
    }));
    this.#counts = stores.map(() => 0);
    this.#head = graphs.session(manifest.head);
    this.#select = graphs.session(manifest.select);
    this.#argmax = graphs.session(manifest.argmax);
    this.#lower = graphs.session(manifest.pages?.lower ?? '');
    this.#collector = openCollector(gpu, manifest);
    this.#drawing = gpu.device.allocInputs([maxRows * 4, maxRows * 8]);
    const [temperatures, targets] = this.#drawing.hosts;
    if (temperatures === undefined || targets === undefined) throw new RangeError('inputs of the choice are missing');
    this.inverseTemperatures = new Float32Array(temperatures.buffer, temperatures.byteOffset, maxRows).fill(1);
    this.targets = new BigInt64Array(targets.buffer, targets.byteOffset, maxRows);
    this.argmaxIds = new BigInt64Array(maxRows);
    this.#maxRows = maxRows;
    this.#memory = allocate(source, gpu, maxRows);
  }

  /** Writes wanted rows with their norms. @returns bytes of each area that they use */
  fill(rows: readonly WantedRow[], norms: readonly number[]): number[] {
    writeLongs(this.#norms, norms);
    this.#counts.fill(0);
    let place = 0;
    for (const { unit, row } of rows) {
      const at = this.#counts[unit];
      const wanted = this.#wanted[unit];
      if (at === undefined || wanted === undefined) throw new RangeError(`unit ${unit} does not exist`);
      wanted.rows[2 * at] = row;
      wanted.places[2 * at] = place++;
      this.#counts[unit] = at + 1;
    }
    return [norms.length * 8, ...this.#counts.flatMap((count) => [count * 8, count * 8])];
  }

  /** Computes the logits of the filled rows. */
  logits(rows: number): void {
    this.#rows = rows;
    this.#penalties = [];
    this.#logits = null;
    for (const [unit, count] of this.#counts.entries()) if (count > 0) this.#collect(unit, count);
    this.#bindings.run(`head/${rows}`, () =>
      this.#head.bind({
        hostInputs: {},
        inputs: { hidden: this.#states(rows), norm: this.#i64(this.#input(0), [rows]) },
        outputs: { logits: this.#logitTensor(rows) },
      }),
    );
  }

  applyPenalties(row: number, amounts: ReadonlyMap<number, number>): void {
    for (const [id, amount] of amounts) this.#penalties.push([row, id, amount]);
  }

  choose(greedy: number, selected: number): void {
    this.#applyAll();
    const rows = greedy + selected;
    if (selected === 0) this.#mostLikely(greedy);
    else {
      this.inverseTemperatures.fill(1, 0, greedy);
      this.targets.fill(0n, 0, greedy);
      this.#selectTop(rows);
      for (let row = 0; row < greedy; row++)
        this.argmaxIds[row] = BigInt(this.#chosen[row * this.#width + this.#source.manifest.topK] ?? NaN);
    }
  }

  selected(row: number): SelectedRow {
    const k = this.#source.manifest.topK;
    const all = this.#chosen.subarray(row * this.#width, (row + 1) * this.#width);
    const [lse = NaN, lseT = NaN, target = NaN] = all.subarray(2 * k);
    const ids = BigInt64Array.from(all.subarray(k, 2 * k), (id) => BigInt(id));
    return { values: all.subarray(0, k), ids, lse, lseT, target };
  }

  /** The first call for a batch copies the logits of all its rows. */
  fullLogits(row: number): Float32Array {
    const { vocab } = this.#source.manifest.architecture;
    return this.#allLogits().slice(row * vocab, (row + 1) * vocab);
  }

  dispose(): void {
    this.#bindings.dispose();
    for (const session of [this.#head, this.#select, this.#argmax, this.#lower, this.#collector]) session.dispose();
  }

  /** Copies the wanted rows of a unit to their places. */
  #collect(unit: number, count: number): void {
    const store = this.#stores[unit];
    if (store === undefined) throw new RangeError(`unit ${unit} does not exist`);
    const states = (): Tensor => this.#states(this.#maxRows);
    this.#bindings.run(`collect/${unit}/${count}`, () =>
      this.#collector.bind({
        hostInputs: {},
        inputs: {
          store: store.tensor(),
          rows: this.#i64(this.#input(1 + 2 * unit), [count]),
          states: states(),
          places: this.#i64(this.#input(2 + 2 * unit), [count, 1]),
        },
        outputs: { collected: states() },
      }),
    );
  }

  #allLogits(): Float32Array {
    if (this.#penalties.length > 0) this.#applyAll();
    if (this.#logits === null) {
      this.#logits = new Float32Array(this.#rows * this.#source.manifest.architecture.vocab);
      this.#download(this.#memory.logits, this.#logits);
    }
    return this.#logits;
  }

  #applyAll(): void {
    while (this.#penalties.length > 0) this.#lowerLogits(this.#penalties.splice(0, MOST_PENALTIES));
  }

  #lowerLogits(penalties: readonly [number, number, number][]): void {
    const { places, amounts } = this.#memory;
    const n = penalties.length;
    const rows = this.#rows;
    this.#logits = null;
    this.#gpu.device.upload([
      {
        target: places,
        source: bytes(BigInt64Array.from(penalties.flatMap(([row, id]) => [BigInt(row), BigInt(id)]))),
      },
      { target: amounts, source: bytes(Float32Array.from(penalties, ([, , amount]) => -amount)) },
    ]);
    this.#bindings.run(`lower/${rows}/${n}`, () =>
      this.#lower.bind({
        hostInputs: {},
        inputs: {
          logits: this.#logitTensor(rows),
          places: this.#i64(places, [n, 2]),
          amounts: this.#f32(amounts, [n]),
        },
        outputs: { lowered: this.#logitTensor(rows) },
      }),
    );
  }

  #mostLikely(rows: number): void {
    if (rows === 0) return;
    const { ids } = this.#memory;
    this.#bindings.run(`argmax/${rows}`, () =>
      this.#argmax.bind({
        hostInputs: {},
        inputs: { logits: this.#logitTensor(rows) },
        outputs: { ids: this.#i64(ids, [rows]) },
      }),
    );
    this.#download(ids, this.argmaxIds.subarray(0, rows));
  }

  #selectTop(rows: number): void {
    const { chosen } = this.#memory;
    const [temperatures = 0n, targets = 0n] = this.#drawing.addresses;
    this.#drawing.upload([rows * 4, rows * 8]);
    this.#bindings.run(`select/${rows}`, () =>
      this.#select.bind({
        hostInputs: {},
        inputs: {
          logits: this.#logitTensor(rows),
          inv_temperature: this.#f32(temperatures, [rows, 1]),
          targets: this.#i64(targets, [rows, 1]),
        },
        outputs: { selected: this.#f32(chosen, [rows, this.#width]) },
      }),
    );
    if (this.#chosen.length < rows * this.#width) this.#chosen = new Float32Array(this.#maxRows * this.#width);
    this.#download(chosen, this.#chosen.subarray(0, rows * this.#width));
  }

  #download(source: bigint, target: BigInt64Array | Float32Array): void {
    this.#gpu.device.download(source, bytes(target));
  }

  #logitTensor(rows: number): Tensor {
    return this.#f32(this.#memory.logits, [rows, this.#source.manifest.architecture.vocab]);
  }

  /** Values of a selected row: the top K, their ids, as many more. */
  get #width(): number {
    return 3 * this.#source.manifest.topK;
  }

  #states(rows: number): Tensor {
    const { architecture, floatType } = this.#source.manifest;
    return this.#gpu.at(this.#memory.states, [rows, stateWidth(architecture)], floatType);
  }

  #input(index: number): bigint {
    return this.#inputs.areas.addresses[this.#inputs.first + index] ?? 0n;
  }

  #f32(memory: bigint, dims: readonly number[]): Tensor {
    return this.#gpu.at(memory, dims, 'f32');
  }

  #i64(memory: bigint, dims: readonly number[]): Tensor {
    return this.#gpu.at(memory, dims, 'i64');
  }
}

function bytes(array: BigInt64Array | Float32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Most logits that one run lowers; a larger set takes several. */
export const MOST_PENALTIES = 4096;

/** The head's areas among those of a step. */
export interface HeadInputs {
  readonly areas: InputAreas;
  /** Index of the first one. */
  readonly first: number;
}

/** Bytes of the head's input areas: norms, and for each unit rows and places. */
export function headSizes(maxRows: number, units: number): number[] {
  return new Array<number>(1 + 2 * units).fill(maxRows * 8);
}

/** Reserves what the head's graphs write. */
export function allocate({ manifest }: ModelSource, { device }: GpuTensors, rows: number) {
  const { architecture, topK } = manifest;
  return {
    states: device.alloc(rows * stateBytes(manifest)),
    logits: device.alloc(rows * architecture.vocab * 4),
    ids: device.alloc(rows * 8),
    chosen: device.alloc(rows * 3 * topK * 4),
    places: device.alloc(MOST_PENALTIES * 16),
    amounts: device.alloc(MOST_PENALTIES * 4),
  };
}
