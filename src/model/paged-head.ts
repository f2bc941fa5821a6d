/** Runs the head, select, argmax and lower graphs of a paged folder. One transfer brings the choices of a batch. */
import type { Gpu, Upload } from '../runtime/device.js';
import type { Session } from '../runtime/session.js';
import { Tensor } from '../runtime/tensor.js';
import { BindingCache, MAX_RANGES } from './binding-cache.js';
import type { GraphLoader, ModelSource } from './graphs.js';
import type { Head, SelectedRow } from './head.js';

/** Most logits that one run lowers; a larger set takes several. */
const MOST_PENALTIES = 4096;

export class PagedHead implements Head {
  readonly inverseTemperatures: Float32Array;
  readonly targets: BigInt64Array;
  readonly argmaxIds: BigInt64Array;
  /** Whether a transfer has waited for the last run; the caller resets it. */
  hasWaited = true;
  readonly #head: Session;
  readonly #select: Session;
  readonly #argmax: Session;
  readonly #lower: Session;
  readonly #bindings = new BindingCache(MAX_RANGES);
  readonly #memory: ReturnType<typeof allocate>;
  /** Rows of the last run, and the amounts to take off their logits: [row, id, amount]. */
  #rows = 0;
  #penalties: [number, number, number][] = [];
  /** Results of the last `choose`, and all logits once a row of them was read. */
  #chosen = new Float32Array(0);
  #logits: Float32Array | null = null;
  /** Whether `#logits` has rows that the device lacks. */
  #isReplaced = false;
  readonly #source: Pick<ModelSource, 'manifest' | 'environment'>;
  readonly #device: Gpu;
  readonly #store: () => Tensor;

  /** @param store makes a tensor of the whole store */
  constructor(source: ModelSource, device: Gpu, graphs: GraphLoader, maxRows: number, store: () => Tensor) {
    const { manifest } = source;
    this.#source = source;
    this.#device = device;
    this.#store = store;
    this.#head = graphs.session(manifest.head);
    this.#select = graphs.session(manifest.select);
    this.#argmax = graphs.session(manifest.argmax);
    this.#lower = graphs.session(manifest.pages?.lower ?? '');
    this.inverseTemperatures = new Float32Array(maxRows).fill(1);
    this.targets = new BigInt64Array(maxRows);
    this.argmaxIds = new BigInt64Array(maxRows);
    this.#memory = allocate(device, maxRows, manifest.architecture.vocab, manifest.topK);
  }

  /** Prepares the uploads of rows of the store, with their norms. */
  fill(rows: readonly number[], norms: readonly number[]): Upload[] {
    return [
      { target: this.#memory.rows, source: bytes(BigInt64Array.from(rows, BigInt)) },
      { target: this.#memory.norms, source: bytes(BigInt64Array.from(norms, BigInt)) },
    ];
  }

  /** Computes the logits of the filled rows. */
  logits(rows: number): void {
    this.#rows = rows;
    this.#penalties = [];
    this.#logits = null;
    this.#isReplaced = false;
    const { rows: places, norms } = this.#memory;
    this.#bindings.run(`head/${rows}`, () =>
      this.#head.bind({
        hostInputs: {},
        inputs: { store: this.#store(), rows: this.#i64(places, [rows]), norm: this.#i64(norms, [rows]) },
        outputs: { logits: this.#logitTensor(rows) },
      }),
    );
  }

  applyPenalties(row: number, amounts: ReadonlyMap<number, number>): void {
    for (const [id, amount] of amounts) this.#penalties.push([row, id, amount]);
  }

  replaceLogits(row: number, logits: Float32Array): void {
    this.#allLogits().set(logits, row * this.#source.manifest.architecture.vocab);
    this.#isReplaced = true;
  }

  choose(greedy: number, selected: number): void {
    this.#applyAll();
    const rows = greedy + selected;
    if (selected === 0) this.#mostLikely(greedy);
    else {
      this.inverseTemperatures.fill(1, 0, greedy);
      this.targets.fill(0n, 0, greedy);
      this.#selectTop(rows);
      for (let row = 0; row < greedy; row++) this.argmaxIds[row] = this.selected(row).ids[0] ?? 0n;
    }
  }

  selected(row: number): SelectedRow {
    const k = this.#source.manifest.topK;
    const all = this.#chosen.subarray(row * (2 * k + 3), (row + 1) * (2 * k + 3));
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
    for (const session of [this.#head, this.#select, this.#argmax, this.#lower]) session.dispose();
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
    // A write begins at the start of the memory, so rows that were replaced are written with all others.
    if (this.#isReplaced && this.#logits !== null)
      this.#device.upload([{ target: this.#memory.logits, source: bytes(this.#logits) }]);
    this.#isReplaced = false;
    while (this.#penalties.length > 0) this.#lowerLogits(this.#penalties.splice(0, MOST_PENALTIES));
  }

  #lowerLogits(penalties: readonly [number, number, number][]): void {
    const { places, amounts } = this.#memory;
    const n = penalties.length;
    const rows = this.#rows;
    this.#logits = null;
    this.#device.upload([
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
    const { temperatures, targets, chosen } = this.#memory;
    const width = 2 * this.#source.manifest.topK + 3;
    this.#device.upload([
      { target: temperatures, source: bytes(this.inverseTemperatures.subarray(0, rows)) },
      { target: targets, source: bytes(this.targets.subarray(0, rows)) },
    ]);
    this.#bindings.run(`select/${rows}`, () =>
      this.#select.bind({
        hostInputs: {},
        inputs: {
          logits: this.#logitTensor(rows),
          inv_temperature: this.#f32(temperatures, [rows, 1]),
          targets: this.#i64(targets, [rows, 1]),
        },
        outputs: { selected: this.#f32(chosen, [rows, width]) },
      }),
    );
    this.#chosen = new Float32Array(rows * width);
    this.#download(chosen, this.#chosen);
  }

  #download(source: bigint, target: BigInt64Array | Float32Array): void {
    this.#device.download(source, bytes(target));
    this.hasWaited = true;
  }

  #logitTensor(rows: number): Tensor {
    return this.#f32(this.#memory.logits, [rows, this.#source.manifest.architecture.vocab]);
  }

  #f32(memory: bigint, dims: readonly number[]): Tensor {
    return new Tensor(this.#source.environment, this.#device.memoryInfo, memory, dims, 'f32');
  }

  #i64(memory: bigint, dims: readonly number[]): Tensor {
    return new Tensor(this.#source.environment, this.#device.memoryInfo, memory, dims, 'i64');
  }
}

function allocate(device: Gpu, rows: number, vocab: number, topK: number) {
  const [places = 0n, norms = 0n] = device.allocInputs([rows * 8, rows * 8]);
  const [temperatures = 0n, targets = 0n] = device.allocInputs([rows * 4, rows * 8]);
  return {
    ...{ rows: places, norms, temperatures, targets },
    logits: device.alloc(rows * vocab * 4),
    ids: device.alloc(rows * 8),
    chosen: device.alloc(rows * (2 * topK + 3) * 4),
    places: device.alloc(MOST_PENALTIES * 16),
    amounts: device.alloc(MOST_PENALTIES * 4),
  };
}

function bytes(array: BigInt64Array | Float32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
