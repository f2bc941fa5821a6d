/** Bodies that no client would send: never a 500, never a request that the engine can't take. */
import fc from 'fast-check';
import t from 'tap';
import { CompletionBody } from '../../src/api/schemas/completions.js';
import { ChatBody } from '../../src/api/schemas/chat.js';
import { build } from '../fakes/server.js';

/** Values near the edges of every rule, and plain nonsense. */
const value = fc.oneof(
  fc.constantFrom(null, true, false, '', 'x', 0, -1, 1, 2, 0.5, 20, 21, 1e308, -1e308, 2 ** 53, '10', [], {}),
  fc.jsonValue({ maxDepth: 2 }),
  fc.array(fc.integer({ min: -2, max: 60_000 }), { maxLength: 4 }),
  fc.array(fc.string(), { maxLength: 5 }),
  fc.dictionary(
    fc.constantFrom('0', '5', '49152', 'x', 'exit_layer', 'latency_budget_ms', 'include_usage'),
    fc.jsonValue(),
  ),
);

function bodies(fields: readonly string[]) {
  return fc.dictionary(fc.constantFrom(...fields, 'tools', 'suffix', 'response_format', '__proto__', 'other'), value, {
    maxKeys: 6,
  });
}

const targets = [
  { path: '/v1/completions', base: { prompt: 'Hello' }, body: bodies(Object.keys(CompletionBody.properties)) },
  {
    path: '/v1/chat/completions',
    base: { messages: [{ role: 'user', content: 'Hi' }] },
    body: bodies(Object.keys(ChatBody.properties)),
  },
  { path: '/tokenize', base: {}, body: bodies(['prompt', 'messages', 'add_special_tokens', 'model']) },
  { path: '/detokenize', base: {}, body: bodies(['tokens', 'model']) },
] as const;

void t.test('fuzzed bodies get an answer or a 4xx in the shape of OpenAI', async (t) => {
  const server = await build(t);
  for (const { path, base, body } of targets) {
    await fc.assert(
      fc.asyncProperty(body, async (fields) => {
        const response = await server.post(path, { ...base, ...fields });
        const text = await response.text();
        if (response.status === 200) return true;
        const { error } = JSON.parse(text) as { error: Record<string, unknown> };
        return response.status >= 400 && response.status < 500 && typeof error.message === 'string' && 'param' in error;
      }),
      { numRuns: 250 },
    );
  }
  t.equal(server.context.api.metrics.live, 0);
  t.equal(server.engine.live, 0);
  for (const { maxTokens, sampling, prompt } of server.engine.requests) {
    t.ok(Number.isSafeInteger(maxTokens) && maxTokens >= 0 && prompt.length > 0 && sampling.temperature <= 2);
  }
});

void t.test('broken JSON and random bytes are a 400', async (t) => {
  const server = await build(t);
  await fc.assert(
    fc.asyncProperty(fc.string({ minLength: 1 }), async (text) => {
      const response = await server.post('/v1/completions', `{"prompt":${text}`);
      await response.text();
      return response.status >= 400 && response.status < 500;
    }),
    { numRuns: 150 },
  );
  t.equal(server.engine.requests.length, 0);
});
