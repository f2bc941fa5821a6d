/**
 * Weights that several graphs of a folder name, once in a GPU's memory: the table of a tied embedding and head, and the
 * rotary tables. Otherwise each session copies its own to the GPU. On the CPU all sessions read one copy anyway.
 */
import { join } from 'node:path';
import type { Device } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import type { WeightFiles } from '../runtime/session.js';
import { Tensor } from '../runtime/tensor.js';
import { type ExternalTensor, externalTensors } from './onnx-weights.js';
import { weightBytes } from './weight-files.js';

/** ONNX Runtime multiplies the parts of coded scales at load, so no GPU holds them (convert/graphs/blocks.ts). */
const FOLDED = /\.(codes|units)$/;

interface Folder {
  readonly dir: string;
  readonly environment: Environment;
  readonly weights: WeightFiles;
}

export class SharedWeights {
  readonly #folder: Folder;
  readonly #device: Device;
  readonly #byGraph: ReadonlyMap<string, readonly ExternalTensor[]>;
  readonly #tensors = new Map<string, Tensor>();

  /** @param files the graphs of the folder that are loaded */
  constructor(folder: Folder, device: Device, files: readonly string[]) {
    this.#folder = folder;
    this.#device = device;
    const graphs = files.map((file) => {
      const weights = weightsOf(join(folder.dir, file)).filter(({ length }) => length <= device.maxBufferBytes);
      return [file, weights] as const;
    });
    const names = graphs.flatMap(([, weights]) => weights.map(({ name }) => name));
    const shared = new Set(names.filter((name, i) => names.indexOf(name) < i));
    this.#byGraph = new Map(graphs.map(([file, weights]) => [file, weights.filter(({ name }) => shared.has(name))]));
  }

  /** The shared weights of a graph, by name. @throws RangeError if the device has too little memory */
  of(file: string): ReadonlyMap<string, Tensor> {
    return new Map(this.#byGraph.get(file)?.map((weight) => [weight.name, this.#tensor(weight)]));
  }

  /** No session may use the tensors any longer. */
  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
  }

  #tensor(weight: ExternalTensor): Tensor {
    const { name, dims, dtype, length } = weight;
    const known = this.#tensors.get(name);
    if (known !== undefined) return known;
    const { dir, environment, weights } = this.#folder;
    const memory = this.#device.alloc(length);
    this.#device.upload([{ target: memory, source: weightBytes(dir, weights, weight) }]);
    const tensor = new Tensor(environment, this.#device.memoryInfo, memory, dims, dtype);
    this.#tensors.set(name, tensor);
    return tensor;
  }
}

/** Weights that a GPU holds; none of a graph that can't be read, which ONNX Runtime reports. */
function weightsOf(graph: string): ExternalTensor[] {
  try {
    return externalTensors(graph).filter(({ name }) => !FOLDED.test(name));
  } catch {
    return [];
  }
}
