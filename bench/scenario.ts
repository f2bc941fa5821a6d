/** The scenarios of bench:engine, the same for every side. */

export interface Scenario {
  /** Concurrent sequences. */
  readonly parallel: number;
  readonly promptTokens: number;
  /** Tokens per answer, including the first one, which prefill yields. */
  readonly answerTokens: number;
}

export interface Rate {
  /** Prompt tokens per second of all sequences. */
  readonly prefill: number;
  /** Answer tokens per second of all sequences, without their first tokens. */
  readonly decode: number;
}

export const SCENARIOS: readonly Scenario[] = [
  { parallel: 1, promptTokens: 512, answerTokens: 65 },
  { parallel: 4, promptTokens: 128, answerTokens: 65 },
  { parallel: 16, promptTokens: 128, answerTokens: 65 },
];

/** Positions of all prompts in the largest cells of GROWTH. */
const GROWTH_POSITIONS = 8192;
/** Tokens that a stream decodes while all streams decode, at least. */
const GROWTH_TOKENS = 33;

/**
 * 1 to 64 streams by length of their prompts, up to GROWTH_POSITIONS together. The first stream also decodes between the
 * chunks of the other prompts, which have 64 positions or more.
 */
export const GROWTH: readonly Scenario[] = [128, 512, 2048, 8192].flatMap((context) =>
  [1, 2, 4, 8, 16, 32, 64]
    .filter((parallel) => parallel * context <= GROWTH_POSITIONS)
    .map((parallel) => ({
      parallel,
      promptTokens: context - GROWTH_TOKENS,
      answerTokens: GROWTH_TOKENS + (parallel - 1) * Math.ceil(context / 64),
    })),
);

/** Token ids that no cache holds: different for every sequence and round. */
export function promptOf(tokens: number, salt: number): number[] {
  let state = salt + 1;
  return Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 300 + (state % 40_000);
  });
}
