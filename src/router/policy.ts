/**
 * Every tunable of the router, with unit and default. The file bench/results/2026-11-ablation.md says how each was found
 * and what it is worth. A rule stays only where the ablation (`bench:planner --set`) shows its effect.
 */

export interface Policy {
  // An operator sets these.

  /** Weight of an answer in time against its quality, 0..1: an answer counts weight + (1 - weight) x quality, if in time. */
  readonly attainmentWeight: number;
  /** Share of the machine that requests without a budget, or past it, get under any load: above 0, to 1. */
  readonly noBudgetShare: number;
  /** Requests without a budget get shallower under load, as if their budget were 1/noBudgetShare of full depth alone. */
  readonly shedDepth: boolean;
  /** Plans leave time for this many times the expected arrivals at the shallowest exit; 0 for none. */
  readonly arrivalHeadroom: number;
  /** The chunks of a step stall decoding sequences no longer than this where smaller ones exist, ms; see prefillShare. */
  readonly maxStallMs: number;

  // The machine and the server determine these.

  /** Prefill chunk sizes that the engine can run, positions, rising. */
  readonly chunks: readonly number[];
  /** Time of a request outside the engine's steps: HTTP, tokenizing, detokenizing; ms. */
  readonly requestOverheadMs: number;

  // Simulation found these.

  /** Prompts get at least this share of a step beside rows that decode, even where their stall gets longer; 0..1. */
  readonly prefillShare: number;
  /** Predicted step times count with this share more: steps vary by a few percent. */
  readonly margin: number;
  /** Share of every budget that neither depth nor rows without a deadline spend. */
  readonly reserve: number;
  /** Most requests within their budgets, live and waiting, with which answers keep their exits; 0 for never. */
  readonly lightRequests: number;
  /** Most load of the arrivals, at the deepest exit, with which answers keep their exits: 1 takes all time. */
  readonly lightLoad: number;
  /** Probability, 0..1, by which a prompt then is in time alone at the deepest exit. */
  readonly lightConfidence: number;
  /** Probability, 0..1, by which a floor is in time where any exit is; see planning-state.ts. */
  readonly floorConfidence: number;
  /** Tokens of an estimated length after which its exit is decided again: a deeper exit counts for these alone. */
  readonly commitTokens: number;
  /** Probability, 0..1, that the answer of a guaranteed budget is no longer than its plan. */
  readonly guarantee: number;
  /** Times that the loss of another, guaranteed request counts in the objective. */
  readonly guaranteeWeight: number;
  /** With every slot held, prompts go on while fewer than this share of the slots decodes. */
  readonly minBatchFill: number;
}

/** Slots beside the server's limit of running sequences: for stored prefixes, and for sequences past their budgets. */
export const SPARE_SLOTS = 16;

/** Few sizes, so that few shapes reach ONNX Runtime's allocator. */
const SIZES = [16, 32, 64, 128, 256, 512, 1024, 2048];

/** Prefill chunk sizes of an engine: rising, up to `most` positions, which is itself one of them. */
export function chunkSizes(most: number): readonly number[] {
  return [...SIZES.filter((size) => size < most), most];
}

/** Largest chunk that plans assume, positions: beyond it a chunk gains little and stalls decoding sequences. */
const PLANNED_CHUNK = 128;

export const defaultPolicy: Policy = {
  attainmentWeight: 0.85,
  noBudgetShare: 0.1,
  shedDepth: false,
  arrivalHeadroom: 2,
  // One planned chunk of the embedded model at full depth on two cores takes 75 to 100 ms.
  maxStallMs: 120,
  chunks: chunkSizes(PLANNED_CHUNK),
  // Measured from the last step to the last byte at the client: 8 to 12 ms.
  requestOverheadMs: 12,
  prefillShare: 0.9,
  margin: 0.08,
  reserve: 0.25,
  lightRequests: 6,
  lightLoad: 0.8,
  lightConfidence: 0.5,
  floorConfidence: 0.9,
  commitTokens: 32,
  guarantee: 0.9995,
  guaranteeWeight: 40,
  minBatchFill: 0.25,
};

/** Chunk size that plans assume: an engine with larger ones takes them where no sequence decodes. */
export function plannedChunk({ chunks }: Policy): number {
  let chunk = chunks[0] ?? PLANNED_CHUNK;
  for (const size of chunks) if (size <= PLANNED_CHUNK) chunk = size;
  return chunk;
}
