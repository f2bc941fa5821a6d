/**
 * Runs several positions of one slot, one stage at a time: prefill chunks, catch-up and verification. The caller names
 * the addresses of inputs and outputs: a hidden-state cache, or one of two scratch buffers.
 */
import { blocksOf } from './memory.js';
import type { BindingSpec, Session } from '../runtime/session.js';
import { hostI32, hostI64, type Tensor } from '../runtime/tensor.js';
import type { StageKernel } from './manifest.js';
import { sessionOf } from './graphs.js';
import type { Stage, StagedModel } from './staged-model.js';

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
