/** Streaming HTTP servers as sides of bench:engine. */
import { RateMeter } from './rate-meter.js';
import { promptOf, type Rate, type Scenario } from './scenario.js';
import type { Server } from './server.js';
import { streamed } from './stream.js';

/** Runs all scenarios, one after another. */
export async function httpRates(server: Server, model: string, scenarios: readonly Scenario[]): Promise<Rate[]> {
  await httpRate(server, model, { parallel: 2, promptTokens: 64, answerTokens: 8 }, 9000);
  const rates: Rate[] = [];
  for (const [index, scenario] of scenarios.entries()) rates.push(await httpRate(server, model, scenario, index * 100));
  return rates;
}

/** @param model name with exit, as in /v1/models */
async function httpRate(server: Server, model: string, scenario: Scenario, salt: number): Promise<Rate> {
  const { parallel, promptTokens, answerTokens } = scenario;
  const meter = new RateMeter(scenario);
  await Promise.all(
    Array.from({ length: parallel }, async (_, index) => {
      const prompt = promptOf(promptTokens, salt + index);
      const plain = { temperature: 0, dry_multiplier: 0, ignore_eos: true };
      let seen = 0;
      for await (const event of streamed(server.url, { model, prompt, max_tokens: answerTokens, ...plain }))
        if (event.includes('"finish_reason":null')) meter.token(seen++ === 0);
      meter.ended();
    }),
  );
  return meter.rate();
}
