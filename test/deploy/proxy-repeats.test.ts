/** A proxy that repeats a POST after the first byte of its answer: the client, and the logs of both replicas. */
import { createServer, request, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { tinyModel } from './helper.js';
import { post, type Replica, startReplicas } from './pool.js';
import { until } from '../support/until.js';

const model = tinyModel(t.testdir({}), 4096);
const body = { prompt: 'Count: one, two,', max_tokens: 2000, ignore_eos: true, stream: true };

/** Breaks off each first attempt behind its first part, and sends the request to the other replica. @returns its address */
async function startRepeating(t: Test, replicas: readonly [Replica, Replica]): Promise<string> {
  const proxy = createServer((incoming, outgoing) => {
    void (async () => {
      const parts: Buffer[] = [];
      for await (const part of incoming) parts.push(part as Buffer);
      for (const [attempt, { url }] of replicas.entries()) {
        const upstream = request(url + (incoming.url ?? ''), { method: 'POST', headers: incoming.headers });
        upstream.end(Buffer.concat(parts));
        const [answer] = (await once(upstream, 'response')) as [IncomingMessage];
        if (attempt === 0) outgoing.writeHead(200, answer.headers);
        for await (const part of answer) {
          outgoing.write(part);
          if (attempt === 0) break;
        }
        upstream.destroy();
      }
      outgoing.end();
    })();
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.teardown(() => proxy.close());
  return `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
}

t.setTimeout(120_000);
void t.test('a POST that a proxy repeats after the first byte', async (t) => {
  const replicas = await startReplicas(t, model, []);
  const url = await startRepeating(t, replicas);
  const headers = { 'x-request-id': 'repeated', 'x-latency-budget-ms': '60000' };
  const text = await (await post(url, body, headers)).text();

  const chunks = [...text.matchAll(/^data: (\{.*\})$/gm)].map(
    ([, json = '']) => JSON.parse(json) as { id: string; usage?: { completion_tokens: number } | null },
  );
  t.equal(new Set(chunks.map(({ id }) => id)).size, 2, 'the client sees two answers in one stream, with two ids');

  const lines = (): Record<string, unknown>[] =>
    replicas.flatMap((each) => each.requests().filter(({ reqId }) => reqId === 'repeated'));
  await until('both logs', async () => lines().length === 2);
  const [first, second] = lines();
  t.match(first, { cancelled: true }, 'the first attempt is cancelled with its connection');
  t.ok(Number(first?.completion_tokens) < 2000, `${String(first?.completion_tokens)} tokens`);
  t.match(second, { status: 200, completion_tokens: 2000 }, 'the second one runs in full');
  t.match(second, { sortie: { budget_ms: 60_000 } }, 'it has a budget of its own');
});
