/** The scenarios of bench:engine, the same for every side, and their rates from the arrivals of tokens. */
import { monotonicMs } from '../../src/util/clock.js';

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
const WARM_UP: Scenario = { parallel: 2, promptTokens: 64, answerTokens: 8 };

/**
 * Prefill lasts until every sequence has its first token, and decode from there until the first sequence ends. The
 * whole batch decodes during that time, as in llama-batched-bench. With several sequences, as in a server, prefill
 * includes decode steps of sequences that have finished their prompt.
 */
export class RateMeter {
  readonly #startedAt: number;
  #waiting: number;
  #decodesFrom = NaN;
  #decodesTo: number | null = null;
  #decoded = 0;
  readonly #scenario: Scenario;
  readonly #clock: () => number;

  constructor(scenario: Scenario, clock: () => number = monotonicMs) {
    this.#scenario = scenario;
    this.#clock = clock;
    this.#startedAt = clock();
    this.#waiting = scenario.parallel;
  }

  /** Records the arrival of a token. @param isFirst whether it is the first token of its sequence */
  token(isFirst: boolean): void {
    if (isFirst && --this.#waiting === 0) this.#decodesFrom = this.#clock();
    else if (!isFirst && this.#waiting === 0 && this.#decodesTo === null) this.#decoded++;
  }

  /** Records the end of a sequence. */
  ended(): void {
    this.#decodesTo ??= this.#clock();
  }

  /** NaN if no token arrived, or if a sequence ended before another one began. */
  rate(): Rate {
    const { parallel, promptTokens } = this.#scenario;
    return {
      prefill: (1000 * parallel * promptTokens) / (this.#decodesFrom - this.#startedAt),
      decode: (1000 * this.#decoded) / ((this.#decodesTo ?? NaN) - this.#decodesFrom),
    };
  }
}

/** Asks for one answer of exactly so many tokens, and calls `token` at the arrival of each. */
export type Answer = (prompt: readonly number[], answerTokens: number, token: () => void) => Promise<void>;

/** Runs all scenarios, one after another. @param measured called after each */
export async function ratesOf(answer: Answer, measured?: (scenario: Scenario) => void): Promise<Rate[]> {
  await rateOf(WARM_UP, 9000, answer);
  const rates: Rate[] = [];
  for (const [index, scenario] of SCENARIOS.entries()) {
    rates.push(await rateOf(scenario, index * 100, answer));
    measured?.(scenario);
  }
  return rates;
}

async function rateOf(scenario: Scenario, salt: number, answer: Answer): Promise<Rate> {
  const { parallel, promptTokens, answerTokens } = scenario;
  const meter = new RateMeter(scenario);
  await Promise.all(
    Array.from({ length: parallel }, async (_, index) => {
      let tokens = 0;
      await answer(promptOf(promptTokens, salt + index), answerTokens, () => {
        meter.token(tokens++ === 0);
      });
      meter.ended();
    }),
  );
  return meter.rate();
}

/** Token ids that no cache holds: different for every sequence and round. */
function promptOf(tokens: number, salt: number): number[] {
  let state = salt + 1;
  return Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 300 + (state % 40_000);
  });
}
