/** Long unbroken texts are tokenized beside other work, and only while a client waits. */
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { EncodingThread } from '../../src/gateway/text/encoding/encoding-thread.js';
import { build, tokenizerFile, type Overrides, type TestServer } from '../fakes/server.js';
import { until } from '../support/until.js';

const unbroken = 'xyz'.repeat(100_000);
const bodies = {
  '/tokenize': { prompt: unbroken },
  '/v1/completions': { prompt: unbroken },
  '/v1/chat/completions': { messages: [{ role: 'user', content: unbroken }], stream: true },
};

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
  const { ready } = server.engine;
  if (ready !== null) server.engine.ready = { ...ready, maxLength: 8192 };
  return server;
}

void t.test('other requests are served while an unbroken text is tokenized', async (t) => {
  const server = await serve(t);
  const { engine, url } = server;
  const { ready } = engine;
  // The server reads `ready` right before it encodes the text.
  const begun = new Promise<void>((resolve) => {
    Object.defineProperty(engine, 'ready', {
      get() {
        resolve();
        return ready;
      },
      set: () => undefined,
    });
  });
  const order: string[] = [];
  const tokenized = server.post('/tokenize', bodies['/tokenize']).then(async (response) => {
    order.push('tokenized');
    t.equal(response.status, 200);
    t.ok(((await response.json()) as { count: number }).count > 50_000);
  });
  await begun;
  for (const path of ['/v2/health/live', '/version']) {
    t.equal((await fetch(url + path)).status, 200);
    order.push(path);
  }
  await tokenized;
  t.same(order, ['/v2/health/live', '/version', 'tokenized']);
});

for (const [path, body] of Object.entries(bodies)) {
  void t.test(`${path}: the work ends when the client disconnects`, async (t) => {
    const log: string[] = [];
    const encoding = new Watched(tokenizerFile);
    const server = await serve(t, { encoding, log: (line) => log.push(line) });
    const abort = new AbortController();
    const headers = { 'content-type': 'application/json' };
    const options = { method: 'POST', headers, body: JSON.stringify(body), signal: abort.signal };
    const response = fetch(server.url + path, options);
    response.catch(() => undefined);
    await encoding.begun;
    abort.abort();
    const lines = (): object[] => log.map((line) => JSON.parse(line) as object).slice(1);
    await until('encoded and logged', () => encoding.ends.length > 0 && lines().length > 0);
    await delay(20);
    t.same(encoding.ends, ['ClientGone']);
    t.equal(server.app.inFlightResponses.size, 0);
    t.match(lines(), [{ msg: 'request', status: 499, cancelled: true }], 'the log has no error');
    t.equal(lines().length, 1);
  });
}

void t.test('an expired budget ends the tokenization, unless the answer continues after a miss', async (t) => {
  const encoding = new Watched(tokenizerFile);
  const server = await serve(t, { encoding });
  for (const onMiss of ['reject', 'truncate', 'land']) {
    const headers = { 'x-latency-budget-ms': '20', ...(onMiss !== 'land' && { 'x-budget-on-miss': onMiss }) };
    const response = await server.post('/v1/completions', bodies['/v1/completions'], headers);
    t.equal(response.status, 503, onMiss);
    t.match(await response.json(), { error: { code: 'budget_infeasible', least_feasible_budget_ms: null } });
  }
  t.same(encoding.ends, ['ApiError', 'ApiError', 'ApiError']);
  const prompt = 'xyz'.repeat(3000);
  const headers = { 'x-latency-budget-ms': '20', 'x-budget-on-miss': 'continue' };
  t.equal((await server.post('/v1/completions', { prompt, max_tokens: 1 }, headers)).status, 200);
});

void t.test(
  'too many long texts are rejected as overload; waiting ones are rejected when the server stops',
  async (t) => {
    const encoding = new Watched(tokenizerFile);
    const server = await serve(t, { encoding });
    const others = Array.from({ length: 7 }, () => encoding.encode(unbroken, false));
    for (const other of others) other.catch(() => undefined);
    const last = server.post('/tokenize', bodies['/tokenize']);
    const isNext = (): boolean => server.app.inFlightResponses.size > 0;
    await until('the next one runs', isNext);
    const statuses: number[] = [];
    for (const [path, body] of Object.entries(bodies)) {
      const rejected = await server.post(path, body);
      statuses.push(rejected.status);
      t.ok(rejected.headers.has('retry-after'));
      t.match(await rejected.json(), { error: { code: 'queue_full' } });
    }
    t.same(statuses, [429, 429, 429]);
    await encoding.close();
    t.match(await (await last).json(), { error: { code: 'draining' } });
  },
);

void t.test('a lost encoding thread is a server fault of this request alone', async (t) => {
  const log: string[] = [];
  const options = { encoding: new EncodingThread('/srv/secret/tokenizer.json'), log: (line: string) => log.push(line) };
  const server = await serve(t, options);
  for (let i = 0; i < 2; i++) {
    const response = await server.post('/tokenize', bodies['/tokenize']);
    const text = await response.text();
    t.equal(response.status, 500);
    t.match(JSON.parse(text), { error: { type: 'server_error', code: 'internal_error' } });
    t.notMatch(text, /secret/);
  }
  t.ok(log.some((line) => /EncodingLost.*ENOENT.*request failed/.test(line)));
  t.equal((await server.post('/tokenize', { prompt: 'Hello' })).status, 200);
});
