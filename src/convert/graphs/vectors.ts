/** Small tensors in the model's float type: norms, biases, rotary tables. */
import type { DataType } from '../../engine/model/onnx-proto.js';
import type { ExternalTensor } from '../../engine/model/onnx-weights.js';
import { toHalf } from '../half.js';
import type { WeightStore } from '../output/weight-store.js';

export type FloatType = Extract<DataType, 'f32' | 'f16'>;

/** Stores floats once under a name. */
export async function storeFloats(
  store: WeightStore,
  name: string,
  dims: number[],
  floatType: FloatType,
  values: () => Float32Array,
): Promise<ExternalTensor> {
  const known = store.get(name);
  if (known) return known;
  const floats = values();
  return store.add(name, floatType, dims, [floatType === 'f16' ? toHalf(floats) : floats]);
}
