/** Kinds of answers and tenants, by which the engine learns the length of answers. */
import t from 'tap';
import { keyDigest, openKey } from '../../src/gateway/http/keys.js';
import { build } from '../fakes/server.js';

const messages = [{ role: 'user', content: 'Hello' }];
const prompt = { prompt: 'Hello' };
const schema = { type: 'object' };
const tools = [{ type: 'function', function: { name: 'now' } }];

void t.test('a grammar decides the kind of an answer, else the endpoint', async (t) => {
  const server = await build(t);
  const chat = '/v1/chat/completions';
  const cases: [string, object, string][] = [
    [chat, { messages }, 'chat'],
    ['/v1/completions', prompt, 'completion'],
    [chat, { messages: [...messages, { role: 'assistant', content: 'Code:' }], continue_final_message: true }, 'chat'],
    ['/v1/responses', { input: 'List the planets as CSV.' }, 'chat'],
    [chat, { messages, response_format: { type: 'text' } }, 'chat'],
    [chat, { messages, response_format: { type: 'json_object' } }, 'schema'],
    ['/v1/completions', { ...prompt, response_format: { type: 'json_schema', json_schema: { schema } } }, 'schema'],
    [chat, { messages, tools }, 'tools'],
    [chat, { messages, tools, tool_choice: 'none' }, 'chat'],
  ];
  for (const [path, body, kind] of cases) {
    await (await server.post(path, body)).text();
    t.strictSame(server.engine.requests.at(-1)?.kind, kind, JSON.stringify(body));
  }
});

void t.test('each API key is a tenant, with or without a name; its opaque name never shows the key', async (t) => {
  const server = await build(t, undefined, { apiKeys: [{ ...openKey('sesame'), name: 'team-a' }, openKey('open')] });
  const keys: unknown[] = [];
  for (const key of ['sesame', 'open']) {
    const authorization = `Bearer ${key}`;
    t.equal((await server.post('/v1/completions', prompt, { authorization })).status, 200);
    const tenant = server.engine.requests.at(-1)?.tenant ?? '';
    t.match(tenant, /^[0-9a-f]{16}$/);
    t.notOk(keyDigest(key).toString('hex').includes(tenant), 'nor its digest');
    keys.push(tenant);
  }
  t.equal(new Set(keys).size, 2);
});
