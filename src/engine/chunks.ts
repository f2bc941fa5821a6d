/** Prefill chunk sizes: few, so that few shapes reach ONNX Runtime's allocator. */

const SIZES = [16, 32, 64, 128, 256, 512, 1024, 2048];

/** Rising sizes up to `most` positions, which is itself one of them. */
export function chunkSizes(most: number): readonly number[] {
  return [...SIZES.filter((size) => size < most), most];
}
