/** Sortie's engine process as a side of bench:engine. */
import { EngineClient } from '../src/gateway/engine-client/client.js';
import type { EngineOptions } from '../src/protocol/engine-options.js';
import type { StepMessage, StepPart, PartMs } from '../src/protocol/index.js';
import { answerOf } from './engine-answer.js';
import { greedy, GREEDY_BASE } from './greedy-request.js';
import { GREEDY } from '../src/protocol/sampling-rules.js';
import { RateMeter } from './rate-meter.js';
import { promptOf, type Rate, type Scenario, WARM_UP } from './scenario.js';

/** @param overrides of these options */
export function benchOptions(modelDir: string, threads: number, overrides: Partial<EngineOptions> = {}): EngineOptions {
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
    ...overrides,
  };
}

/**
 * Runs scenarios at one exit in an engine process of its own.
 * @param measured called after each scenario, with the mean parts of its decode steps; null without one
 */
export async function engineRates(
  options: EngineOptions,
  exit: number | null,
  scenarios: readonly Scenario[],
  measured: (scenario: Scenario, step: PartMs | null) => void = () => undefined,
): Promise<Rate[]> {
  const engine = new EngineClient(options);
  const ready = await engine.start();
  try {
    const depth = exit ?? ready.exits.at(-1) ?? 0;
    await engineRate(engine, depth, WARM_UP, 9000);
    const rates: Rate[] = [];
    for (const [index, scenario] of scenarios.entries()) {
      const parts: PartMs[] = [];
      const noted = ({ tokens, work }: StepMessage): void => {
        if (work !== null && work.prefillTokens === 0 && tokens.length === scenario.parallel) parts.push(work.partMs);
      };
      engine.on('step', noted);
      const rate = await engineRate(engine, depth, scenario, index * 100);
      engine.off('step', noted);
      measured(scenario, meanParts(parts));
      rates.push(rate);
    }
    return rates;
  } finally {
    await engine.close();
  }
}

function meanParts(steps: readonly PartMs[]): PartMs | null {
  if (steps.length === 0) return null;
  const mean = (part: StepPart): number => steps.reduce((sum, parts) => sum + parts[part], 0) / steps.length;
  return {
    planning: mean('planning'),
    prefill: mean('prefill'),
    decode: mean('decode'),
    head: mean('head'),
    sampling: mean('sampling'),
    messages: mean('messages'),
  };
}

/** Runs one scenario in a running engine. @param salt makes prompts that no cache holds */
export async function engineRate(engine: EngineClient, exit: number, scenario: Scenario, salt: number): Promise<Rate> {
  const { parallel, promptTokens, answerTokens } = scenario;
  const meter = new RateMeter(scenario);
  await Promise.all(
    Array.from({ length: parallel }, async (_, index) => {
      let tokens = 0;
      // Full depth answers as the base does, like llama.cpp's side. Other exits have their DRY rule.
      const sampling = exit === engine.ready?.exits.at(-1) ? GREEDY_BASE : GREEDY;
      const prompt = promptOf(promptTokens, salt + index);
      const request = greedy(`bench-${salt}-${index}`, prompt, exit, answerTokens, { sampling });
      await answerOf(engine, request, () => {
        meter.token(tokens++ === 0);
      });
      meter.ended();
    }),
  );
  return meter.rate();
}
