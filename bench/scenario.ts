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

/** Positions of prompts and answers in the largest cell of `GROWTH`. */
export const GROWTH_POSITIONS = 16_384;
const GROWTH_ANSWER = 33;

/** Numbers of streams with contexts of each length, up to GROWTH_POSITIONS together. The context includes the answer. */
export const GROWTH: readonly Scenario[] = [128, 512, 2048, 8192].flatMap((context) =>
  [1, 2, 4, 8, 16, 32, 64]
    .filter((parallel) => parallel * context <= GROWTH_POSITIONS)
    .map((parallel) => ({ parallel, promptTokens: context - GROWTH_ANSWER, answerTokens: GROWTH_ANSWER })),
);

/** Token ids that no cache holds: different for every sequence and round. */
export function promptOf(tokens: number, salt: number): number[] {
  let state = salt + 1;
  return Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 300 + (state % 40_000);
  });
}
