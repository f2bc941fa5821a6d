/** `serve --no-local`, as a process: upstream models only. The upstream is a Sortie too, with a tiny model. */
import OpenAI from 'openai';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { main, readyUrl, serve, start, tinyModel, urlOf } from '../deploy/helper.js';
import { scriptedUpstream, answers } from '../fakes/upstream.js';
import { post } from '../support/post.js';

void t.test('it is ready at once, lists upstream models, and answers the rest with clear errors', async (t) => {
  const there = await scriptedUpstream(t, answers('Paris.'));
  const dir = t.testdir({
    'sortie.yaml': `upstreams: {big: {url: "${there.url.href}", model: vendor/big-1, key_env: BIG_KEY}}\nmodels: {a/b: {upstream: big}}\n`,
  });
  const args = [main, 'serve', '--no-local', '--port', '0', '--ops-port', '0', '--config', join(dir, 'sortie.yaml')];
  const server = start(t, process.execPath, args, { BIG_KEY: 'upstream-key', SORTIE_CACHE_DIR: dir });
  const url = await urlOf(server);
  t.equal((await fetch(`${url}/health/ready`)).status, 200);
  const get = async (path: string, body?: object) => {
    const response = await (body === undefined ? fetch(url + path) : post(url + path, body));
    return { status: response.status, body: (await response.json()) as object };
  };
  t.match(await get('/v1/models'), { status: 200, body: { data: [{ id: 'a/b', owned_by: 'upstream' }] } });
  t.match(await get('/v1/models/a/b'), { status: 200, body: { id: 'a/b' } });
  t.match(await get('/v1/models/x'), { status: 404, body: { error: { code: 'model_not_found' } } });
  const messages = [{ role: 'user', content: 'Where is Paris?' }];
  const chat = { messages, sortie: { latency_budget_ms: 60_000 } };
  t.match(await get('/v1/chat/completions', { model: 'a/b', ...chat }), {
    status: 200,
    body: { model: 'a/b', choices: [{ message: { content: 'Paris.' } }], sortie: { source: 'upstream', met: true } },
  });
  t.match(await get('/v1/messages', { model: 'a/b', max_tokens: 9, ...chat }), {
    status: 200,
    body: { type: 'message', content: [{ text: 'Paris.' }], stop_reason: 'end_turn' },
  });
  t.match(await get('/v1/messages', { model: 'big', max_tokens: 9, messages }), {
    status: 404,
    body: { type: 'error', error: { type: 'not_found_error', param: 'model' } },
  });
  t.equal(there.exchanges[0]?.headers.authorization, 'Bearer upstream-key');
  t.match(await get('/v1/chat/completions', { model: 'big', messages }), {
    status: 404,
    body: { error: { message: 'This server has no model "big"; it has a/b.', param: 'model' } },
  });
  t.match(await get('/v1/completions', { prompt: 'x' }), {
    status: 400,
    body: { error: { message: 'model must be one of a/b.', param: 'model' } },
  });
  for (const path of ['/tokenize', '/v1/messages/count_tokens']) {
    const { status, body } = await get(path, {});
    t.equal(status, 404);
    t.match(JSON.stringify(body), `${path} needs a local model, and this server runs with --no-local.`);
  }
  t.match(await (await fetch(url)).text(), 'GET  /v1/models');
  t.equal(there.exchanges.length, 2);
});

void t.test('it needs an upstream', (t) => {
  const { status, stderr } = spawnSync(process.execPath, [main, 'serve', '--no-local'], { encoding: 'utf8' });
  t.equal(status, 2);
  t.match(stderr, '--no-local needs --upstream, or upstreams in --config');
  t.end();
});

void t.test('a Sortie in front of a Sortie, for the ordinary programs of clients', async (t) => {
  const model = tinyModel(t.testdir({}), 2048);
  const there = await serve(t, model, ['--model-name', 'tiny']);
  const flags = ['--no-local', '--upstream', `${there.url}/v1`, '--upstream-model', 'tiny'];
  const server = start(t, process.execPath, [main, 'serve', '--port', '0', '--host', '127.0.0.1', ...flags]);
  const baseURL = `${await readyUrl(server)}/v1`;
  const client = new OpenAI({ apiKey: 'any', baseURL, maxRetries: 0 });
  const messages = [{ role: 'user' as const, content: 'Where is Paris?' }];
  for (const headers of [{}, { 'X-Latency-Budget-Ms': '60000' }]) {
    const asked = { model: 'tiny', messages, max_completion_tokens: 5 };
    t.equal((await client.chat.completions.create(asked, { headers })).usage?.completion_tokens, 5);
    let chunks = 0;
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }, { headers }))
      chunks += chunk.model === 'tiny' ? 1 : 0;
    t.ok(chunks > 1, `${chunks} chunks`);
  }
});
