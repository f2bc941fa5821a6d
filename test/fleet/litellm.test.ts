/** LiteLLM's proxy before two replicas of the embedded model. */
import OpenAI from 'openai';
import t from 'tap';
import { modelDir, shallowest } from '../conformance/helper.js';
import { missing, startReplicas } from '../deploy/pool.js';
import { testClients } from './clients.js';
import { LITELLM_KEY, startLitellm } from './routers.js';

/** The alias of deploy/litellm names this exit. */
const ALIASED = 15;

t.setTimeout(300_000);
void t.test('LiteLLM', { skip: missing('litellm') }, async (t) => {
  const replicas = await startReplicas(t, modelDir, ['--prefix-reuse', 'all', '--model-name', 'sortie']);
  const url = await startLitellm(t, replicas);
  const baseURL = `${url}/v1`;
  const client = new OpenAI({ baseURL, apiKey: LITELLM_KEY, maxRetries: 0 });
  const chat = { messages: [{ role: 'user' as const, content: 'Name a color.' }], max_completion_tokens: 8 };

  await t.test('aliases of the model list: an exit by its own name', async (t) => {
    const names: string[] = [];
    for await (const { id } of client.models.list()) names.push(id);
    t.same(names.sort(), ['sortie', 'sortie-fast']);
    const { data, response } = await client.chat.completions.create({ ...chat, model: 'sortie-fast' }).withResponse();
    t.equal(response.headers.get('llm_provider-x-exit-layer'), String(ALIASED));
    t.match(data, { sortie: { plan: { exit_layer: ALIASED } } });
    t.not(ALIASED, shallowest);
  });

  await t.test('the cost is that of the tokens in the model list', async (t) => {
    for (const [model, input, output] of [
      ['sortie', 1e-7, 4e-7],
      ['sortie-fast', 5e-8, 2e-7],
    ] as const) {
      const { data, response } = await client.chat.completions.create({ ...chat, model }).withResponse();
      const { prompt_tokens: prompt = NaN, completion_tokens: answer = NaN } = data.usage ?? {};
      const cost = Number(response.headers.get('x-litellm-response-cost'));
      t.ok(Math.abs(cost - (prompt * input + answer * output)) < 1e-9, `${cost} for ${prompt} and ${answer} tokens`);
      t.match(response.headers.get('x-litellm-model-id'), model === 'sortie' ? /^[ab]$/ : /^fast-[ab]$/);
    }
  });

  await testClients(t, {
    ...{ baseURL, apiKey: LITELLM_KEY, model: 'sortie', replicas, headerOf: (name) => `llm_provider-${name}` },
    rejection: { status: 503, code: '503', attempts: [1, 1] },
  });
});
