/**
 * Runs several positions of one slot, one stage at a time: prefill chunks, catch-up and verification. The caller names
 * the addresses of inputs and outputs: a hidden-state cache, or one of two scratch buffers.
 */
import { hostI32, hostI64, Tensor } from '../runtime/tensor.js';
import type { StageKernel } from './manifest.js';
import type { Stage, StagedModel } from './staged-model.js';

export class PrefillRunner {
  readonly #ids;
  readonly #past = hostI32(1);
  readonly #total = hostI32(1);
  readonly #scratch: readonly [bigint, bigint];
  readonly #model: StagedModel;

  constructor(model: StagedModel) {
    this.#model = model;
    const { maxChunk } = model.limits;
    this.#ids = hostI64(maxChunk);
    const bytes = maxChunk * model.hiddenBytes;
    this.#scratch = [model.device.alloc(bytes), model.device.alloc(bytes)];
  }

  /** Scratch for one chunk's states at a boundary; adjacent boundaries of the trunk never share one. */
  scratch(boundary: number): bigint {
    return this.#scratch[boundary % 2 === 0 ? 0 : 1];
  }

  /** Embeds tokens into `output`. @param tokens at most maxChunk ids */
  embed(tokens: readonly number[], output: bigint): void {
    const model = this.#model;
    tokens.forEach((token, index) => (this.#ids.data[index] = BigInt(token)));
    const { environment } = model;
    const binding = model.embed.bind({
      hostInputs: {
        ids: new Tensor(environment, environment.hostMemory, this.#ids.address, [1, tokens.length], 'i64'),
      },
      inputs: {},
      outputs: { hidden: this.#positions(output, tokens.length) },
    });
    binding.run();
    binding.dispose();
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
    const session = stage.sessions.get(kernel);
    if (!session) throw new RangeError(`stage ${stage.entry.name} has no kernel ${kernel}`);
    const { environment } = this.#model;
    this.#past.data[0] = start + count - 1;
    this.#total.data[0] = start + count;
    const binding = session.bind({
      hostInputs: {
        seqlens_k: new Tensor(environment, environment.hostMemory, this.#past.address, [1], 'i32'),
        total_len: new Tensor(environment, environment.hostMemory, this.#total.address, [1], 'i32'),
      },
      inputs: { hidden: this.#positions(input, count), ...stage.kv.tensors('past', slot, 1) },
      outputs: { hidden_out: this.#positions(output, count), ...stage.kv.tensors('present', slot, 1) },
    });
    binding.run();
    binding.dispose();
  }

  #positions(address: bigint, count: number): Tensor {
    const { environment, device, manifest } = this.#model;
    return new Tensor(
      environment,
      device.memoryInfo,
      address,
      [1, count, manifest.architecture.hidden],
      manifest.floatType,
    );
  }
}
