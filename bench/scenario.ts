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

/** A first scenario, which allocates memory and connections. */
export const WARM_UP: Scenario = { parallel: 2, promptTokens: 64, answerTokens: 8 };

/** Token ids that no cache holds: different for every sequence and round. */
export function promptOf(tokens: number, salt: number): number[] {
  let state = salt + 1;
  return Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 300 + (state % 40_000);
  });
}
