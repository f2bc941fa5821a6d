/** Rules that hold for all APIs: log, metrics, failures, disconnects. */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { build, says } from '../fakes/server.js';
import { until } from '../support/until.js';

const SECRET = 'a secret question';
const messages = [{ role: 'user', content: SECRET }];
const inChunk = /"error":{[^}]*"type":"unavailable_error"[^}]*"code":"engine_lost".*\[DONE\]\n\n$/s;
const inResponse =
  /event: error\ndata: {"type":"error"[^\n]*"code":"engine_lost"[^\n]*\n\nevent: response.failed\n[^\n]*"status":"failed"[^\n]*"error":{"code":"engine_lost"[^\n]*"status":"incomplete"[^\n]*\n\n$/;
const inMessage =
  /event: error\ndata: {"type":"error"[^\n]*"type":"overloaded_error"[^\n]*"code":"engine_lost"[^\n]*"request_id":"[^\n]*\n\n$/;

/** A body for each path, and the end of a stream that fails. */
const WIRES = [
  ['/v1/completions', { prompt: SECRET, max_tokens: 30 }, inChunk],
  ['/v1/chat/completions', { messages, n: 2 }, inChunk],
  ['/v1/responses', { input: SECRET }, inResponse],
  ['/v1/messages', { messages, max_tokens: 30 }, inMessage],
] as const;

for (const [path, body, failed] of WIRES) {
  const count = 'n' in body ? body.n : 1;

  void t.test(`${path}: one log line with plan, times and counts and without any text, and one count`, async (t) => {
    for (const stream of [false, true]) {
      const server = await build(t, says('a hidden answer'), { keepsLog: true });
      await server.ask(path, { ...body, stream }, { 'x-request-id': 'r2' });
      const lines = await server.logged();
      // `sortie bench --trace` reads these lines.
      const counts = { prompt_tokens: server.last().prompt.length, completion_tokens: 3 * count };
      const plan = { exit_layer: 30, predicted_ttft_ms: 1.5 };
      const sortie = { plan, actual_ms: Number, ttft_ms: Number, queue_ms: Number };
      const line = { reqId: 'r2', route: path, status: 200, ms: Number, model: 'fake', ...counts, sortie };
      t.match(lines, { length: 1, 0: line });
      t.notMatch(JSON.stringify(lines), /secret|hidden/);
      const { text } = await server.get('/metrics');
      t.match(text, `sortie_http_requests_total{method="POST",route="${path}",status="200"`);
      t.match(text, new RegExp(`^sortie_generation_tokens_total\\{.*\\} ${3 * count}$`, 'm'));
    }
  });

  void t.test(`${path}: a failure after the first token ends the stream, and the log has its reason`, async (t) => {
    const server = await build(t, says('one two three', { loseAfter: 2 }), { keepsLog: true });
    const { text } = await server.ask(path, { ...body, stream: true });
    t.match(text, failed);
    t.notMatch(text, /message_stop|response\.completed/);
    t.match(await server.logged(), [{ status: 200, code: 'engine_lost' }]);
    t.match(await server.ask(path, body), { status: 502, headers: { 'retry-after': '2' } });
  });

  void t.test(`${path}: a client that disconnects cancels its sequences, streamed or not`, async (t) => {
    const server = await build(t, says('one two three four five six seven eight nine ten', { pace: 20 }));
    for (const stream of [true, false]) {
      const over = new AbortController();
      server.post(path, { ...body, stream }, {}, over.signal).catch(() => undefined);
      await until('running', () => server.engine.live === count);
      await delay(30);
      over.abort();
      await until('idle', () => server.engine.live === 0);
      t.equal(server.engine.cancelled.length, stream ? count : 2 * count, `stream ${stream}`);
    }
    await until('responses end', () => server.app.responses.size === 0 && server.context.api.metrics.live === 0);
  });
}
