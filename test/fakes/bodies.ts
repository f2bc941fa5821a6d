/** Bodies that no client would send, by endpoint. */
import fc from 'fast-check';
import { ChatBody } from '../../src/api/schemas/chat.js';
import { CompletionBody } from '../../src/api/schemas/completions.js';

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

export const targets = [
  { path: '/v1/completions', base: { prompt: 'Hello' }, body: bodies(Object.keys(CompletionBody.properties)) },
  {
    path: '/v1/chat/completions',
    base: { messages: [{ role: 'user', content: 'Hi' }] },
    body: bodies(Object.keys(ChatBody.properties)),
  },
  { path: '/tokenize', base: {}, body: bodies(['prompt', 'messages', 'add_special_tokens', 'model']) },
  { path: '/detokenize', base: {}, body: bodies(['tokens', 'model']) },
] as const;
