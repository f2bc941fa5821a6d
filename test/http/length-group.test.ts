/** Groups of requests, by which the engine learns the length of answers. */
import t from 'tap';
import { openKey } from '../../src/http/keys.js';
import { build } from '../fakes/server.js';

const messages = [{ role: 'user', content: 'Hello' }];
const prompt = { prompt: 'Hello' };
const schema = { type: 'object' };
const tools = [{ type: 'function', function: { name: 'now' } }];

void t.test('a grammar decides the length group of a request, else the endpoint does', async (t) => {
  const server = await build(t);
  const chat = '/v1/chat/completions';
  const cases: [string, object, string][] = [
    [chat, { messages }, 'chat'],
    ['/v1/completions', prompt, 'completion'],
    [chat, { messages, response_format: { type: 'text' } }, 'chat'],
    [chat, { messages, response_format: { type: 'json_object' } }, 'schema'],
    ['/v1/completions', { ...prompt, response_format: { type: 'json_schema', json_schema: { schema } } }, 'schema'],
    [chat, { messages, tools }, 'tools'],
    [chat, { messages, tools, tool_choice: 'none' }, 'chat'],
  ];
  for (const [path, body, kind] of cases) {
    await (await server.post(path, body)).text();
    t.strictSame(server.engine.requests.at(-1)?.lengthGroup, { kind, key: null }, JSON.stringify(body));
  }
});

void t.test('the group has the name of the API key, and never the key', async (t) => {
  const server = await build(t, undefined, { apiKeys: [{ ...openKey('sesame'), name: 'team-a' }, openKey('open')] });
  for (const [key, name] of [
    ['sesame', 'team-a'],
    ['open', null],
  ] as const) {
    t.equal((await server.post('/v1/completions', prompt, { authorization: `Bearer ${key}` })).status, 200);
    t.strictSame(server.engine.requests.at(-1)?.lengthGroup, { kind: 'completion', key: name });
  }
});
