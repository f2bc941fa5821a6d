/** The gateway's heap keeps nothing that grows with the number of requests. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { build, says } from '../fakes/server.js';

const BATCH = 200;
const KINDS = 4;

/**
 * Compiled code and the test's client take about 600 bytes per request over so few requests. A leaked request is
 * several thousand.
 */
const MOST_BYTES_EACH = 1500;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

async function retained(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return process.memoryUsage().heapUsed;
}

void t.test('requests that finish, are rejected, fail or lose their client leave no memory behind', async (t) => {
  const server = await build(t, (request) => says('one two three', request.maxTokens === 7 ? { end: 'error' } : {})());
  const send = async (index: number): Promise<void> => {
    const messages = [{ role: 'user', content: 'Count' }];
    const bodies = [
      { messages, n: 2, logprobs: true, top_logprobs: 3 },
      { messages, stream: true, stop: ['three'], sortie: { latency_budget_ms: 50 } },
      { messages, temperature: 9 },
      { messages, max_tokens: 7 },
    ];
    const leaver = new AbortController();
    const response = await server.post('/v1/chat/completions', bodies[index % KINDS], {}, leaver.signal);
    if (index % 20 === 1) leaver.abort();
    else await response.text();
  };
  const batch = async (): Promise<number> => {
    for (let index = 0; index < BATCH; index += KINDS) {
      await Promise.all(Array.from({ length: KINDS }, (_, kind) => send(index + kind)));
    }
    for (let tries = 0; server.engine.live > 0 && tries < 100; tries++) await new Promise((go) => setTimeout(go, 10));
    // The fake engine keeps the requests that it got.
    server.engine.requests.length = 0;
    server.engine.cancelled.length = 0;
    return retained();
  };
  // The first batches fill caches and compile code.
  await batch();
  const before = await batch();
  await batch();
  const grown = (await batch()) - before;
  t.ok(grown < 2 * BATCH * MOST_BYTES_EACH, `${(grown / (2 * BATCH)).toFixed(0)} bytes retained for each request`);
  t.comment(`${(grown / (2 * BATCH)).toFixed(0)} bytes retained for each request`);
  t.equal(server.context.api.metrics.live, 0);
  t.equal(server.app.responses.size, 0);
});
