/** Streaming HTTP servers as sides of bench:engine. */
import { eventData } from './remote/stream.js';
import { post } from './post.js';
import { RateMeter } from './rate-meter.js';
import { promptOf, type Rate, type Scenario, WARM_UP } from './scenario.js';
import type { Server } from './server.js';

type Address = Pick<Server, 'url'>;

/** Runs all scenarios, one after another. */
export async function httpRates(server: Address, model: string, scenarios: readonly Scenario[]): Promise<Rate[]> {
  await httpRate(server, model, WARM_UP, 9000);
  const rates: Rate[] = [];
  for (const [index, scenario] of scenarios.entries()) rates.push(await httpRate(server, model, scenario, index * 100));
  return rates;
}

/** @param model name with exit, as in /v1/models. @throws Error with the status if the server rejects a request */
async function httpRate({ url }: Address, model: string, scenario: Scenario, salt: number): Promise<Rate> {
  const { parallel, promptTokens, answerTokens } = scenario;
  const meter = new RateMeter(scenario);
  await Promise.all(
    Array.from({ length: parallel }, async (_, index) => {
      const prompt = promptOf(promptTokens, salt + index);
      const plain = { temperature: 0, dry_multiplier: 0, ignore_eos: true, stream: true };
      const response = await post(`${url}/v1/completions`, { model, prompt, max_tokens: answerTokens, ...plain });
      if (!response.ok || !response.body) throw new Error(`${response.status}: ${await response.text()}`);
      let seen = 0;
      for await (const event of eventData(response.body))
        if (event.includes('"finish_reason":null')) meter.token(seen++ === 0);
      meter.ended();
    }),
  );
  return meter.rate();
}
