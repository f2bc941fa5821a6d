/** Long unbroken texts are tokenized beside other work, and only while a client waits. */
import t, { type Test } from 'tap';
import { EncodingThread } from '../../src/gateway/text/encoding/encoding-thread.js';
import { READY } from '../fakes/engine.js';
import { build, tokenizerFile, type Overrides, type TestServer } from '../fakes/server.js';
import { until } from '../support/until.js';

const unbroken = 'xyz'.repeat(100_000);

/** Reports the start and the end of each encoding. */
class Watched extends EncodingThread {
  readonly ends: string[] = [];
  private tell: () => void = () => undefined;
  readonly begun = new Promise<void>((resolve) => {
    this.tell = resolve;
  });

  override async encode(text: string, addSpecial: boolean, signal?: AbortSignal): Promise<Uint32Array> {
    this.tell();
    try {
      const ids = await super.encode(text, addSpecial, signal);
      this.ends.push('encoded');
      return ids;
    } catch (error) {
      this.ends.push((error as Error).name);
      throw error;
    }
  }
}

async function serve(t: Test, overrides: Overrides = {}): Promise<TestServer> {
  const server = await build(t, undefined, overrides);
  server.engine.ready = { ...READY, maxLength: 8192 };
  return server;
}

void t.test('other requests are served while an unbroken text is tokenized', async (t) => {
  const encoding = new Watched(tokenizerFile);
  const server = await serve(t, { encoding });
  const order: string[] = [];
  const tokenized = server.ask('/tokenize', { prompt: unbroken }).then(({ body }) => {
    order.push('tokenized');
    t.ok((body as unknown as { count: number }).count > 50_000);
  });
  await encoding.begun;
  for (const path of ['/v2/health/live', '/version']) {
    t.equal((await fetch(server.url + path)).status, 200);
    order.push(path);
  }
  await tokenized;
  t.same(order, ['/v2/health/live', '/version', 'tokenized']);
});

void t.test('the work ends when the client disconnects', async (t) => {
  const encoding = new Watched(tokenizerFile);
  const server = await serve(t, { encoding, keepsLog: true });
  const abort = new AbortController();
  const messages = [{ role: 'user', content: unbroken }];
  server.post('/v1/chat/completions', { messages, stream: true }, {}, abort.signal).catch(() => undefined);
  await encoding.begun;
  abort.abort();
  await until('encoded', () => encoding.ends.length > 0);
  t.same(encoding.ends, ['ClientGone']);
  const lines = await server.logged();
  t.match(lines, { length: 1, 0: { status: 499, cancelled: true, fault: undefined } }, 'the log has no error');
});

void t.test('an expired budget ends the tokenization, unless the answer continues after a miss', async (t) => {
  const encoding = new Watched(tokenizerFile);
  const server = await serve(t, { encoding });
  for (const onMiss of ['reject', 'truncate', 'land']) {
    const headers = { 'x-latency-budget-ms': '20', ...(onMiss !== 'land' && { 'x-budget-on-miss': onMiss }) };
    const error = { code: 'budget_infeasible', least_feasible_budget_ms: null, outcome: 'refused' };
    const rejected = await server.ask('/v1/completions', { prompt: unbroken }, headers);
    t.match(rejected, { status: 503, body: { error }, headers: { 'x-sortie-outcome': 'refused' } }, onMiss);
  }
  t.same(encoding.ends, ['ApiError', 'ApiError', 'ApiError']);
  const prompt = 'xyz'.repeat(3000);
  const headers = { 'x-latency-budget-ms': '20', 'x-budget-on-miss': 'continue' };
  t.equal((await server.post('/v1/completions', { prompt, max_tokens: 1 }, headers)).status, 200);
});
