/**
 * The operator's policy when nothing was said.
 *
 * Knows: defaults and why, and what follows from a policy alone. Must not know: flags and their names (config).
 */
import type { Policy } from './types.js';

/** Few, so that few shapes reach ONNX Runtime's allocator. */
const SIZES = [16, 32, 64, 128, 256, 512, 1024, 2048];

/** Prefill chunk sizes of an engine: rising, up to `most` positions, which is itself one of them. */
export function chunkSizes(most: number): readonly number[] {
  return [...SIZES.filter((size) => size < most), most];
}

/** Largest chunk that plans assume, positions: beyond it a chunk gains little and stalls its neighbours. */
const PLANNED_CHUNK = 128;

export const defaultPolicy: Policy = {
  // Half of the answers would overrun a median; at 0.9 a tenth of them must catch up by going shallower.
  lengthQuantile: 0.9,
  // Steps vary by a few per cent from one to the next even where the model is right on average.
  margin: 0.08,
  // Above the noise of one step, below the cost difference of two neighbouring exits (17 to 50%).
  hysteresis: 0.1,
  dwellTokens: 8,
  noBudgetShare: 0.1,
  shedDepth: false,
  chunks: chunkSizes(PLANNED_CHUNK),
  // One chunk that plans assume, of the embedded model at full depth, on 2 cores: 75 to 100 ms.
  maxStallMs: 120,
  // From the last step to the last byte at the client, on a machine whose cores compute: 8 to 12 ms were measured.
  requestOverheadMs: 12,
  // Arrivals come in clusters: with room for the mean alone, every cluster finds the time spent.
  foresight: 2,
  urgency: 0.75,
};

/** Chunk size that plans assume: an engine that runs larger ones takes them where nobody waits. */
export function planChunk(policy: Policy): number {
  let chunk = policy.chunks[0] ?? PLANNED_CHUNK;
  for (const size of policy.chunks) if (size <= PLANNED_CHUNK) chunk = size;
  return chunk;
}
