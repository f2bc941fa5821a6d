/**
 * Bodies that no client would send never cause a 500 or an invalid request to the engine. chaos/fuzz sends many more of
 * them to a real server.
 */
import fc from 'fast-check';
import t from 'tap';
import { CALL } from '../../src/gateway/text/tool-form.js';
import { targets, asText } from '../fakes/bodies.js';
import { build, says } from '../fakes/server.js';

void t.test('a fuzzed body gets an answer or a 4xx in the form of OpenAI', async (t) => {
  // As in the engine, a forced call is a call.
  const server = await build(t, ({ grammar }) =>
    says(grammar?.kind === 'calls' ? `${CALL.open}f${CALL.middle}{}${CALL.close}` : 'Paris.')(),
  );
  for (const { path, base, body } of targets) {
    await fc.assert(
      fc.asyncProperty(body, async (fields) => {
        const response = await server.post(path, asText({ ...base, ...fields }));
        const text = await response.text();
        if (response.status === 200) return true;
        const { error } = JSON.parse(text) as { error: Record<string, unknown> };
        return response.status >= 400 && response.status < 500 && typeof error.message === 'string' && 'param' in error;
      }),
      { numRuns: 60 },
    );
  }
  t.equal(server.context.api.metrics.live, 0);
  t.equal(server.engine.live, 0);
  for (const { maxTokens, sampling, prompt } of server.engine.requests) {
    t.ok(Number.isSafeInteger(maxTokens) && maxTokens >= 0 && prompt.length > 0 && sampling.temperature <= 2);
  }
});
