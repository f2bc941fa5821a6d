/** Shared parts of the builders of one decoder layer: its tensors, and the nodes that multiply and normalize. */
import type { Architecture, LayerKind } from '../../engine/model/architecture.js';
import type { LayerCalibration, LinearLabel } from '../calibration.js';
import type { WeightStore } from '../output/weight-store.js';
import { quantizeToNearest } from '../quantize/int4.js';
import { LAYER, type Part, type SourceTensor, type Tensors } from '../source.js';
import { linearWeight, scaled } from '../weight.js';
import type { Graph } from '../../engine/model/onnx-graph.js';
import { addLinear, type FloatType, type KernelOptions, storeFloats } from './linear.js';

export interface StageLayer {
  /** Source of the layer's tensors: `source.tensor(prefix + LAYER.q)`. */
  source: Pick<Tensors, 'tensor'>;
  prefix: string;
  /** Prefix of its initializers, e.g. `layers.3`. */
  name: string;
  readonly kind: LayerKind;
  /** Its place in its exit's stack, trunk and block, and the sizes that it has there. */
  readonly place: number;
  readonly arch: Architecture;
  /** Activation statistics of the layer. */
  calibration: LayerCalibration;
}

export interface StageOptions extends Omit<KernelOptions, 'quantizer'> {
  floatType: FloatType;
  kvType: FloatType | 'i8';
  /** Whether the KV cache has pages; otherwise it has slots. */
  isPaged: boolean;
  /** The norm that ends a loop; null: the stage ends with the sums of its last layer. */
  loopNorm: SourceTensor | null;
}

export class LayerBuilder {
  /** @param index of the layer in its stage, which names the inputs and outputs of its KV cache */
  constructor(
    readonly graph: Graph,
    readonly store: WeightStore,
    readonly options: StageOptions,
    readonly layer: StageLayer,
    readonly index: number,
  ) {}

  get arch(): Architecture {
    return this.layer.arch;
  }

  /** Prefix of the layer's names in the graph. */
  get id(): string {
    return this.layer.name;
  }

  tensor(part: Part): SourceTensor {
    return this.layer.source.tensor(this.layer.prefix + LAYER[part]);
  }

  /** The same layer with other names in the graph. */
  named(name: string): LayerBuilder {
    return new LayerBuilder(this.graph, this.store, this.options, { ...this.layer, name }, this.index);
  }

  /** Adds a vector as an initializer. */
  async vector(label: string, part: Part, factor = 1): Promise<string> {
    const tensor = scaled(this.tensor(part), factor);
    const name = `${this.id}.${label}`;
    const { floatType } = this.options;
    return this.graph.weight(
      await storeFloats(this.store, name, [...tensor.shape], floatType, () => tensor.rows(0, 1)),
    );
  }

  /** Adds y = x W^T for stacked weights. */
  linear(label: LinearLabel, x: string, ...parts: SourceTensor[]): Promise<string> {
    return addLinear(this.graph, this.store, x, linearWeight(`${this.id}.${label}`, parts), {
      ...this.options,
      quantizer: (k) => this.layer.calibration.int4(label, k),
    });
  }

  /** The same under a name of its own, without statistics of its input. */
  plainLinear(name: string, x: string, ...parts: SourceTensor[]): Promise<string> {
    const options = { ...this.options, quantizer: () => quantizeToNearest };
    return addLinear(this.graph, this.store, x, linearWeight(name, parts), options);
  }

  /** Adds the root-mean-square norm of the last axis. */
  norm(x: string, scale: string, out: string): string {
    const epsilon = { float: this.arch.normEps };
    return this.graph.node('SimplifiedLayerNormalization', [x, scale], [out], { axis: -1, epsilon });
  }
}
