/** Prefill chunk sizes: few, so that few shapes reach ONNX Runtime's allocator. */

const SIZES = [16, 32, 64, 128, 256, 512, 1024, 2048];

/** Rising sizes up to `most` positions, which is itself one of them. */
export function chunkSizes(most: number): readonly number[] {
  return [...SIZES.filter((size) => size < most), most];
}

/**
 * Where a chunk from `start` ends that may have `most` positions. It leaves no single position for the next one:
 * attention over one position rounds otherwise than over several, and the answer must not depend on the chunk size.
 */
export function chunkEnd(start: number, most: number, target: number): number {
  const end = Math.min(start + most, target);
  return target - end === 1 && end - start > 2 ? end - 1 : end;
}
