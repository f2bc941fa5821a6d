/**
 * Every tunable of planning, with unit and default: the one table. docs/router.md says what each is worth, measured on a
 * real server.
 */

export interface Policy {
  // An operator sets these.

  /** Share of the machine that requests without a budget, or past it, get under any load: above 0, to 1. */
  readonly noBudgetShare: number;
  /** The chunks of a step stall decoding sequences no longer than this where smaller ones exist, ms; see prefillShare. */
  readonly maxStallMs: number;

  // The machine and the server determine these.

  /** Prefill chunk sizes that the engine can run, positions, rising. */
  readonly chunks: readonly number[];
  /** Time of a request outside the engine's steps: HTTP, tokenizing, detokenizing; ms. */
  readonly requestOverheadMs: number;

  // Costs.

  /** Predicted times count with this share more: steps vary by a few percent. */
  readonly margin: number;
  /** Prompts get at least this share of a step beside rows that decode, even where their stall gets longer; 0..1. */
  readonly prefillShare: number;

  // Load.

  /** Most load that is planned for; at 1 a batch would grow without end. */
  readonly mostLoad: number;
  /** Share of right answers that a shallower bound gains at least. */
  readonly depthGain: number;
  /** A plan holds for so long while no prompt begins, ms. */
  readonly planMs: number;

  // Landing.

  /** Share of the time until its planned end that an answer has without end pressure. */
  readonly landingOpens: number;

  // Guarantees.

  /** Probability, 0..1, that an answer that can't land is no longer than its guarantee covers. */
  readonly covered: number;
}

/** Few sizes, so that few shapes reach ONNX Runtime's allocator. */
const SIZES = [16, 32, 64, 128, 256, 512, 1024, 2048];

/** Prefill chunk sizes of an engine: rising, up to `most` positions, which is itself one of them. */
export function chunkSizes(most: number): readonly number[] {
  return [...SIZES.filter((size) => size < most), most];
}

/** Largest chunk that plans assume, positions: beyond it a chunk gains little and stalls decoding sequences. */
const PLANNED_CHUNK = 128;

export const defaultPolicy: Policy = {
  noBudgetShare: 0.1,
  // One planned chunk of the embedded model at full depth on two cores takes 75 to 100 ms.
  maxStallMs: 120,
  chunks: chunkSizes(PLANNED_CHUNK),
  // Measured from the last step to the last byte at the client: 8 to 12 ms.
  requestOverheadMs: 12,
  margin: 0.08,
  prefillShare: 0.9,
  mostLoad: 0.85,
  depthGain: 0.01,
  planMs: 50,
  landingOpens: 0.5,
  covered: 0.9995,
};

/** Chunk size that plans assume: an engine with larger ones takes them where no sequence decodes. */
export function plannedChunk({ chunks }: Policy): number {
  let chunk = chunks[0] ?? PLANNED_CHUNK;
  for (const size of chunks) if (size <= PLANNED_CHUNK) chunk = size;
  return chunk;
}
