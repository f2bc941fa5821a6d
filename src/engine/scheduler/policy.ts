/**
 * The tunables of plans, with unit and default. Those of one part are in its file: drift of the costs (cost/model.ts),
 * drafts, prefixes and places of rows (drafts, kv, placement), bins and priors of lengths.
 */

/** Few sizes, so that few shapes reach ONNX Runtime's allocator. */
const SIZES = [16, 32, 64, 128, 256, 512, 1024, 2048];

/** Prefill chunk sizes of an engine: rising, up to `most` positions, which is itself one of them. */
export function chunkSizes(most: number): readonly number[] {
  return [...SIZES.filter((size) => size < most), most];
}

/** Largest chunk that plans assume, positions: beyond it a chunk gains little and stalls decoding sequences. */
const PLANNED_CHUNK = 128;

export const defaultPolicy = {
  // An operator sets these.

  /** Share of the machine that requests without a promise get under any load: above 0, below 1. */
  noBudgetShare: 0.1,
  /**
   * The chunks of a step stall decoding sequences no longer than this where smaller ones exist, ms. One planned chunk
   * of the embedded model at full depth on two cores takes 75 to 100 ms.
   */
  maxStallMs: 120,

  // The machine and the server determine these.

  /** Prefill chunk sizes that the engine can run, positions, rising. */
  chunks: chunkSizes(PLANNED_CHUNK),
  /**
   * Time of a request outside the engine's steps, ms. Measured from the last step to the client's last byte: 8 to 12.
   */
  requestOverheadMs: 12,

  // Costs.

  /** Predicted times count with this share more: steps vary by a few percent. */
  margin: 0.08,
  /** Prompts get at least this share of a step beside rows that decode, even where their stall gets longer; 0..1. */
  prefillShare: 0.9,

  // Load.

  /**
   * Load up to which a deeper exit is taken, as a share of what full slots serve: budgets leave little time for queues.
   * In simulation .65 and .4 have up to .01 less right answers of a looped model, 1 up to .04.
   */
  depthLoad: 0.5,
  /** Share of right answers that a shallower bound gains at least. */
  depthGain: 0.05,
  /** Arrivals count for at least so long, ms: the end of a burst shows within it. */
  arrivalWindowMs: 1_000,
  /** Most time over which an arrival with a long budget counts, ms. */
  arrivalMostMs: 10_000,

  // Answers.

  /** Answers that the prior of output lengths counts for. */
  priorAnswers: 3,
  /**
   * Ends of schemas and calls for each end of a chat answer, before any was seen. Of 11 forms of the embedded model the
   * median has 37 tokens, nine have at most 74.
   */
  formEnds: 5,
  /** Factor on what is known of a kind's lengths, by each further answer of a tenant: about its last 100 count. */
  answerFade: 0.99,

  // Sentences.

  /** Share of sentences that are no longer than planned. Each longer one at the deadline is an answer that is cut. */
  sentenceQuantile: 0.9,
  /** Length of a sentence in tokens at that quantile, before any was seen: English prose of small models. */
  sentenceTokens: 24,
  /**
   * The same for nets and code: the first outage meets a server that has answered nothing. The calibration at start
   * writes no text. Of first sentences of the embedded model 90% have at most 29 tokens, 95% 38, and lists and code up
   * to 110. Of first statements of code 90% have at most 36, 95% 52.
   */
  carefulSentenceTokens: 48,
  /** Step of that length, as its logarithm, by each further answer of a tenant: about its last 20 count. */
  sentenceGain: 0.05,
  /** Least probability, 0..1, of a whole sentence: below it, over two of three such answers would be cut. */
  leastSentence: 1 / 3,

  // Guarantees.

  /** Probability, 0..1, that an answer that can't land is no longer than its guarantee covers. */
  covered: 0.9995,
  /** Share of guarantees that are to be kept. */
  keptShare: 0.995,
  /** The safety margin of promises: a share of their times. A miss adds a step, as much as a slow spell takes. */
  marginStep: 0.1,
  initialMargin: 0.1,
  /** A margin above its initial value holds for so long without an outcome; then its excess halves in each, ms. */
  marginHalfLifeMs: 10_000,
  /**
   * Room of a rejection's number for the requests that arrive until a retry: in simulation, 97 of 100 retries after
   * 20 ms are then admitted. With .15 it is 91.
   */
  retryRoom: 0.25,
};

export type Policy = { readonly [K in keyof typeof defaultPolicy]: (typeof defaultPolicy)[K] };

/** Chunk size that plans assume: an engine with larger ones takes them where no sequence decodes. */
export function plannedChunk({ chunks }: Policy): number {
  return chunks.findLast((size) => size <= PLANNED_CHUNK) ?? chunks[0] ?? PLANNED_CHUNK;
}
