/** Runs the head, select and argmax graphs. Logits stay on the device; the host reads only the top K. */
import { type HostBuffer, hostF32, hostI64, Tensor } from '../runtime/tensor.js';
import { BindingCache, MAX_RANGES } from '../runtime/session.js';
import type { Head, SelectedRow } from './head.js';
import type { StagedModel } from './staged-model.js';

export class HeadRunner implements Head {
  /** Norm table rows, inverse temperatures and targets of the rows; the caller writes them. */
  readonly norms: BigInt64Array;
  readonly inverseTemperatures: Float32Array;
  readonly targets: BigInt64Array;
  /** Result of `argmax`. */
  readonly argmaxIds: BigInt64Array;
  readonly #hidden: bigint;
  readonly #logits: bigint;
  readonly #norms;
  readonly #inverseTemperatures;
  readonly #targets;
  readonly #argmax;
  readonly #values;
  readonly #ids;
  readonly #lse;
  readonly #lseT;
  readonly #targetValues;
  /** The row that `fullLogits` read last. */
  readonly #row: Float32Array<ArrayBuffer>;
  readonly #bindings = new BindingCache();
  readonly #selects = new BindingCache(MAX_RANGES);
  readonly #model: StagedModel;

  constructor(model: StagedModel) {
    this.#model = model;
    const { maxRows } = model.limits;
    const { topK, architecture } = model.manifest;
    this.#hidden = model.device.alloc(maxRows * model.hiddenBytes);
    this.#logits = model.device.alloc(maxRows * architecture.vocab * 4);
    this.#norms = hostI64(maxRows);
    this.#inverseTemperatures = hostF32(maxRows);
    this.#targets = hostI64(maxRows);
    this.#argmax = hostI64(maxRows);
    this.#values = hostF32(maxRows * topK);
    this.#ids = hostI64(maxRows * topK);
    this.#lse = hostF32(maxRows);
    this.#lseT = hostF32(maxRows);
    this.#targetValues = hostF32(maxRows);
    this.#row = new Float32Array(architecture.vocab);
    this.norms = this.#norms.data;
    this.inverseTemperatures = this.#inverseTemperatures.data;
    this.targets = this.#targets.data;
    this.argmaxIds = this.#argmax.data;
  }

  /** Address for a row's hidden state; the caller writes it there before `logits`. */
  input(row: number): bigint {
    return this.#hidden + BigInt(row * this.#model.hiddenBytes);
  }

  /** Computes the logits of rows [0, rows). */
  logits(rows: number): void {
    const model = this.#model;
    this.#bindings.run(`head/${rows}`, () =>
      model.head.bind({
        hostInputs: { norm: this.#norms.tensor(model.environment, [rows]) },
        inputs: { hidden: model.states(this.#hidden, [rows]) },
        outputs: { logits: this.#logitRows(0, rows) },
      }),
    );
  }

  /**
   * Computes the logits of rows [0, rows) to score a text. Their hidden states are contiguous at `states`, and all rows
   * use one norm of the table.
   */
  logitsOf(states: bigint, rows: number, norm: number): void {
    this.#model.device.copy(this.input(0), states, rows * this.#model.hiddenBytes);
    this.norms.fill(BigInt(norm), 0, rows);
    this.logits(rows);
  }

  /** Lowers single logits of a row for the next `argmax` and `select`. @param amounts by token id */
  applyPenalties(row: number, amounts: ReadonlyMap<number, number>): void {
    const { device, manifest } = this.#model;
    const logit = new Float32Array(1);
    const bytes = new Uint8Array(logit.buffer);
    for (const [id, amount] of amounts) {
      const address = this.#logits + BigInt((row * manifest.architecture.vocab + id) * 4);
      device.download(address, bytes);
      logit[0] = (logit[0] ?? 0) - amount;
      device.upload([{ target: address, source: bytes }]);
    }
  }

  choose(greedy: number, selected: number): void {
    if (greedy > 0) this.argmax(greedy);
    if (selected > 0) this.select(greedy, selected);
  }

  /** Writes the most likely ids of rows [0, rows) to `argmaxIds`. */
  argmax(rows: number): void {
    this.#bindings.run(`argmax/${rows}`, () =>
      this.#model.argmax.bind({
        hostInputs: {},
        inputs: { logits: this.#logitRows(0, rows) },
        outputs: { ids: this.#argmax.tensor(this.#model.environment, [rows]) },
      }),
    );
  }

  /** Selects the top K of rows [first, first + rows); read them with `selected`. */
  select(first: number, rows: number): void {
    const { environment, manifest } = this.#model;
    const { topK } = manifest;
    const of = <T>(buffer: HostBuffer<T>, perRow = 1): Tensor =>
      buffer.tensor(environment, [rows, perRow], first * perRow);
    this.#selects.run(`${first}/${rows}`, () =>
      this.#model.select.bind({
        hostInputs: { inv_temperature: of(this.#inverseTemperatures), targets: of(this.#targets) },
        inputs: { logits: this.#logitRows(first, rows) },
        outputs: {
          top_values: of(this.#values, topK),
          top_ids: of(this.#ids, topK),
          lse: of(this.#lse),
          lse_t: of(this.#lseT),
          target_values: of(this.#targetValues),
        },
      }),
    );
  }

  /** The result of `select` for a row. */
  selected(row: number): SelectedRow {
    const { topK } = this.#model.manifest;
    return {
      values: this.#values.data.subarray(row * topK, (row + 1) * topK),
      ids: this.#ids.data.subarray(row * topK, (row + 1) * topK),
      lse: this.#lse.data[row] ?? NaN,
      lseT: this.#lseT.data[row] ?? NaN,
      target: this.#targetValues.data[row] ?? NaN,
    };
  }

  fullLogits(row: number): Float32Array {
    const { device, manifest } = this.#model;
    device.download(this.#logits + BigInt(row * manifest.architecture.vocab * 4), new Uint8Array(this.#row.buffer));
    return this.#row;
  }

  dispose(): void {
    this.#bindings.dispose();
    this.#selects.dispose();
  }

  #logitRows(first: number, rows: number): Tensor {
    const { environment, device, manifest } = this.#model;
    const { vocab } = manifest.architecture;
    return new Tensor(environment, device.memoryInfo, this.#logits + BigInt(first * vocab * 4), [rows, vocab], 'f32');
  }
}
