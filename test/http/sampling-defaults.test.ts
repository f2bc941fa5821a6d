/** Sampling of requests that state none of its fields, or only some: the model's defaults, or those of OpenAI's API. */
import t from 'tap';
import { loadServedModel } from '../../src/gateway/api/load-served-model.js';
import { resolveOptions } from '../../src/cli/options/config.js';
import { samplingWarning } from '../../src/engine/model/common-sampling.js';
import type { Generation } from '../../src/engine/model/manifest.js';
import { build } from '../fakes/server.js';

const generation = { temperature: 0.3, topP: 0.9, topK: 40, minP: 0.05, repetitionPenalty: 1.05 };
const neutral = { temperature: 1, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1 };
const messages = [{ role: 'user', content: 'Hi' }];

void t.test(
  'a model that states no sampling has that of llama.cpp, and one that states a part is neutral',
  async (t) => {
    const sampled = async (generation: Generation) => {
      const server = await build(t, undefined, { model: { generation } });
      await server.ask('/v1/chat/completions', { messages });
      return server.last().sampling;
    };
    t.match(await sampled({}), { ...neutral, temperature: 0.8, topP: 0.95, topK: 40 });
    t.match(await sampled({ maxTokens: 9, repetitionPenalty: 1.1 }), { temperature: 0.8, repetitionPenalty: 1.1 });
    t.match(await sampled({ topK: 20 }), { ...neutral, topK: 20 });
  },
);

void t.test('the warning about guessed sampling names the option that states it', (t) => {
  t.match(samplingWarning({}), /temperature 0\.8, top_p 0\.95 and top_k 40.*sortie convert SOURCE .*--generation/s);
  t.equal(samplingWarning({ generation: { temperature: 1 } }), null);
  t.end();
});

void t.test('/props has the defaults, and an answer states its sampling if the request asks', async (t) => {
  const server = await build(t, undefined, { model: { generation } });
  const fields = { temperature: 0.3, top_p: 0.9, top_k: 40, min_p: 0.05, repetition_penalty: 1.05 };
  t.match((await server.get('/props')).body, { sampling_defaults: fields });
  const report = async (body: object) =>
    (await server.ask('/v1/chat/completions', { messages, ...body })).body.sortie ?? {};
  t.notOk('sampling' in (await report({})));
  const penalties = { presence_penalty: 0, frequency_penalty: 0 };
  const { sampling } = await report({ sortie: { show_sampling: true } });
  t.strictSame(sampling, { ...fields, ...penalties });
  const stated = { top_p: 0.5, dry_multiplier: 1 };
  const own = { ...fields, ...penalties, ...stated, dry_base: 1.75, dry_allowed_length: 2 };
  t.strictSame((await report({ ...stated, sortie: { show_sampling: true } })).sampling, own);
  // The report can be sent as a request.
  t.strictSame((await report({ ...own, sortie: { show_sampling: true } })).sampling, own);
});

void t.test('the embedded model has calm defaults, and a rule against loops at every exit', (t) => {
  const embedded = loadServedModel(resolveOptions({}, {}).model);
  t.strictSame(embedded.generation, { temperature: 0.2, topP: 0.9, maxTokens: 1024 });
  t.ok(embedded.exits.every(({ dry }) => (dry?.multiplier ?? 0) > 0));
  t.end();
});
