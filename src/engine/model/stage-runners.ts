/**
 * Runs one position for each slot of a range: the batch of a decode step, stage by stage.
 *
 * Row r of every buffer is slot r. Stage s reads buffer s % 2 and writes the other one, so the batch may shrink from
 * stage to stage without moving a row. A row without a valid position computes into an unused one.
 *
 * Runs several positions of one slot, one stage at a time: prefill chunks, catch-up and verification. The caller names
 * the addresses of inputs and outputs: a hidden-state cache, or one of two scratch buffers.
 */
import { type Binding, BindingCache, MAX_RANGES, type BindingSpec, type Session } from '../runtime/session.js';
import { hostI32, hostI64, type Tensor } from '../runtime/tensor.js';
import { sessionOf } from './graphs.js';
import type { StageKernel } from './manifest.js';
import type { Stage, StagedModel } from './staged-model.js';
import { blocksOf } from './memory.js';

/** Embedding, stages and exit blocks of a model that run the same range, about. */
const UNITS = 8;

export class DecodeRunner {
  /** Token ids of the rows; the caller writes them. */
  readonly ids: BigInt64Array;
  /** Earlier positions of each row, seqlens_k of GroupQueryAttention; the caller writes them. */
  readonly pasts: Int32Array;
  readonly #ids;
  readonly #pasts;
  readonly #total = hostI32(1);
  readonly #hidden: readonly [bigint, bigint];
  readonly #blockOut: bigint;
  readonly #bindings = new BindingCache(UNITS * MAX_RANGES);
  readonly #model: StagedModel;

  constructor(model: StagedModel) {
    this.#model = model;
    const { maxRows } = model.limits;
    this.#ids = hostI64(maxRows);
    this.#pasts = hostI32(maxRows);
    this.ids = this.#ids.data;
    this.pasts = this.#pasts.data;
    const bytes = maxRows * model.hiddenBytes;
    this.#hidden = [model.device.alloc(bytes), model.device.alloc(bytes)];
    this.#blockOut = model.device.alloc(bytes);
  }

  /** Address of a row's state at a boundary, after the stage before the boundary ran. */
  hidden(boundary: number, row: number): bigint {
    return this.#hidden[boundary % 2 === 0 ? 0 : 1] + BigInt(row * this.#model.hiddenBytes);
  }

  /** Address of an exit block's output for a row. */
  blockOutput(row: number): bigint {
    return this.#blockOut + BigInt(row * this.#model.hiddenBytes);
  }

  /** Computes boundary 0 from `ids` for rows [first, first + rows). */
  embed(first: number, rows: number): void {
    this.#bindings.run(`embed/${first}/${rows}`, () => {
      const model = this.#model;
      return model.embed.bind({
        hostInputs: { ids: this.#ids.tensor(model.environment, [rows, 1], first) },
        inputs: {},
        outputs: { hidden: model.states(this.hidden(0, first), [rows, 1]) },
      });
    });
    this.#model.rows.read(rows);
  }

  /** Runs a trunk stage over rows [first, first + rows). @param longest the greatest past of these rows */
  stage(index: number, kernel: StageKernel, first: number, rows: number, longest: number): void {
    this.#total.data[0] = longest + 1;
    this.#bindings.run(`${index}/${kernel}/${first}/${rows}`, () => {
      const stage = this.#model.stages[index];
      if (!stage) throw new RangeError(`stage ${index} does not exist`);
      return this.#bind(stage, kernel, first, rows, this.hidden(index, first), this.hidden(index + 1, first));
    });
  }

  /** Runs an exit block over rows [first, first + rows), from its boundary to `blockOutput`. */
  block(block: Stage, kernel: StageKernel, first: number, rows: number, longest: number): void {
    this.#total.data[0] = longest + 1;
    this.#bindings.run(`${block.entry.name}/${kernel}/${first}/${rows}`, () => {
      const input = this.hidden(block.entry.boundary, first);
      return this.#bind(block, kernel, first, rows, input, this.blockOutput(first));
    });
  }

  dispose(): void {
    this.#bindings.dispose();
  }

  #bind(stage: Stage, kernel: StageKernel, first: number, rows: number, input: bigint, output: bigint): Binding {
    const { environment } = this.#model;
    const states = (address: bigint): Tensor => this.#model.states(address, [rows, 1]);
    return sessionOf(stage, kernel).bind({
      hostInputs: {
        seqlens_k: this.#pasts.tensor(environment, [rows], first),
        total_len: this.#total.tensor(environment, [1]),
      },
      inputs: { hidden: states(input), ...stage.kv.tensors('past', first, rows) },
      outputs: { hidden_out: states(output), ...stage.kv.tensors('present', first, rows) },
    });
  }
}

export class PrefillRunner {
  readonly #ids;
  readonly #past = hostI32(1);
  readonly #total = hostI32(1);
  readonly #position = hostI64(1);
  readonly #scratch: readonly [bigint, bigint];
  /** Memory for a chunk's keys and values behind a prompt exit; null without one. */
  readonly #keys: bigint | null;
  readonly #model: StagedModel;

  constructor(model: StagedModel) {
    this.#model = model;
    const { maxChunk } = model.limits;
    this.#ids = hostI64(maxChunk);
    const bytes = maxChunk * model.hiddenBytes;
    this.#scratch = [model.device.alloc(bytes), model.device.alloc(bytes)];
    const units = blocksOf(model).flatMap(({ keys, kv }) => (keys === undefined ? [] : [kv.bytesPerPosition]));
    this.#keys = units.length === 0 ? null : model.device.alloc(maxChunk * Math.max(...units));
  }

  /** Scratch for one chunk's states at a boundary; adjacent boundaries of the trunk never share one. */
  scratch(boundary: number): bigint {
    return this.#scratch[boundary % 2 === 0 ? 0 : 1];
  }

  /** Embeds tokens into `output`. @param tokens at most maxChunk ids */
  embed(tokens: readonly number[], output: bigint): void {
    const model = this.#model;
    tokens.forEach((token, index) => (this.#ids.data[index] = BigInt(token)));
    const count = tokens.length;
    runOnce(model.embed, {
      hostInputs: { ids: this.#ids.tensor(model.environment, [1, count]) },
      inputs: {},
      outputs: { hidden: model.states(output, [1, count]) },
    });
    model.rows.read(count);
  }

  /** Runs a stage over positions [start, start + count) of a slot. The stage must have run all earlier positions. */
  stage(
    stage: Stage,
    kernel: StageKernel,
    slot: number,
    start: number,
    count: number,
    input: bigint,
    output: bigint,
  ): void {
    const { environment } = this.#model;
    this.#past.data[0] = start + count - 1;
    this.#total.data[0] = start + count;
    const states = (address: bigint): Tensor => this.#model.states(address, [1, count]);
    runOnce(sessionOf(stage, kernel), {
      hostInputs: {
        seqlens_k: this.#past.tensor(environment, [1]),
        total_len: this.#total.tensor(environment, [1]),
      },
      inputs: { hidden: states(input), ...stage.kv.tensors('past', slot, 1) },
      outputs: { hidden_out: states(output), ...stage.kv.tensors('present', slot, 1) },
    });
  }

  /**
   * Gives a unit behind a prompt exit its keys and values of positions [start, start + count) of a slot, without its
   * layers.
   * @param input states of the unit's boundary
   * @throws RangeError for a unit without keys graphs
   */
  keys(unit: Stage, kernel: StageKernel, slot: number, start: number, count: number, input: bigint): void {
    const session = unit.keys?.get(kernel);
    if (session === undefined || this.#keys === null) throw new RangeError(`${unit.entry.name} has no keys graph`);
    this.#position.data[0] = BigInt(start);
    runOnce(session, {
      hostInputs: { position: this.#position.tensor(this.#model.environment, [1]) },
      inputs: { hidden: this.#model.states(input, [1, count]) },
      outputs: unit.kv.fresh(this.#keys, count),
    });
    unit.kv.take(this.#keys, count, slot, start);
  }
}

function runOnce(session: Session, spec: BindingSpec): void {
  const binding = session.bind(spec);
  binding.run();
  binding.dispose();
}
