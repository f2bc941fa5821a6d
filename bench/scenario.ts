/** What every side of the engine bench is asked to do. Knows: shapes. Must not know: sides. */

export interface Scenario {
  /** Sequences at once. */
  readonly parallel: number;
  readonly promptTokens: number;
  /** Tokens per answer, the first one (which prefill yields) included. */
  readonly answerTokens: number;
}

export interface Rate {
  /** Prompt tokens per second, all sequences together. */
  readonly prefill: number;
  /** Answer tokens per second after the first of each. */
  readonly decode: number;
}

export const SCENARIOS: readonly Scenario[] = [
  { parallel: 1, promptTokens: 512, answerTokens: 65 },
  { parallel: 4, promptTokens: 128, answerTokens: 65 },
  { parallel: 16, promptTokens: 128, answerTokens: 65 },
];

/** Token ids that no cache knows: different for every sequence and round. */
export function promptOf(tokens: number, salt: number): number[] {
  let state = salt + 1;
  return Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 300 + (state % 40_000);
  });
}
