/** Our engine process as a side of the bench. Knows: EngineClient. Must not know: peers, HTTP. */
import { monotonicMs } from '../src/clock.js';
import { EngineClient } from '../src/engine/client.js';
import type { EngineOptions } from '../src/engine/options.js';
import { answerOf } from './engine-answer.js';
import { greedy } from './greedy-request.js';
import { promptOf, type Rate, type Scenario } from './scenario.js';

export function benchOptions(modelDir: string, threads: number): EngineOptions {
  return {
    modelDir,
    device: 'cpu',
    threads,
    kvMemoryBytes: 2 ** 31,
    maxRunning: 16,
    maxQueue: 64,
    prefillChunk: 128,
    kernels: null,
    prefixReuse: false,
  };
}

/** Runs scenarios at one exit in an engine process of its own. */
export async function engineRates(
  options: EngineOptions,
  exit: number | null,
  scenarios: readonly Scenario[],
): Promise<Rate[]> {
  const engine = new EngineClient(options);
  const ready = await engine.start();
  try {
    const depth = exit ?? ready.exits.at(-1) ?? 0;
    await engineRate(engine, depth, { parallel: 2, promptTokens: 64, answerTokens: 8 }, 9000);
    const rates: Rate[] = [];
    for (const [index, scenario] of scenarios.entries())
      rates.push(await engineRate(engine, depth, scenario, index * 100));
    return rates;
  } finally {
    await engine.close();
  }
}

/** Prefill until every sequence has its first token; decode from there to the end. */
export async function engineRate(engine: EngineClient, exit: number, scenario: Scenario, salt: number): Promise<Rate> {
  const { parallel, promptTokens, answerTokens } = scenario;
  const first: number[] = [];
  const startedAt = monotonicMs();
  let decoded = 0;
  let decodedBefore = 0;
  await Promise.all(
    Array.from({ length: parallel }, (_, index) => {
      let tokens = 0;
      const request = greedy(`bench-${salt}-${index}`, promptOf(promptTokens, salt + index), exit, answerTokens);
      return answerOf(engine, request, () => {
        if (tokens++ > 0) decoded++;
        else if (first.push(monotonicMs()) === parallel) decodedBefore = decoded;
      });
    }),
  );
  const endedAt = monotonicMs();
  const allFirst = Math.max(...first);
  // With several sequences, prefill includes the decode steps of those that are ahead: what a server does.
  return {
    prefill: (1000 * parallel * promptTokens) / (allFirst - startedAt),
    decode: (1000 * (decoded - decodedBefore)) / (endedAt - allFirst),
  };
}
