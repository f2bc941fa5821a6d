/** A gateway with a heap of 512 MB, half of a container of 1 GiB: no allowed request ends it. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const CHILD = fileURLToPath(new URL('../fakes/small-heap.js', import.meta.url));

interface Got {
  readonly status: number;
  readonly bytes: number;
  readonly start: string;
  readonly end: string;
}

interface Reader {
  readonly client?: string;
  /** Rest after each piece. */
  readonly pauseMs?: number;
  /** The client leaves after the first piece, once this resolves. */
  readonly leaves?: () => Promise<unknown>;
}

/** A promise for so many callers: it resolves with the last call. */
function meeting(count: number): () => Promise<void> {
  let [left, pass] = [count, (): void => undefined];
  const all = new Promise<void>((resolve) => (pass = resolve));
  return () => {
    if (--left === 0) pass();
    return all;
  };
}

/** Asks, and counts the bytes of the answer without keeping them. */
function ask(
  port: number,
  path: string,
  body: object,
  { client = '10.0.0.1', pauseMs = 0, leaves }: Reader = {},
): Promise<Got> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'x-forwarded-for': client };
    const asked = request({ port, host: '127.0.0.1', path, method: 'POST', headers }, (response) => {
      let [bytes, start, end] = [0, '', ''];
      void (async () => {
        for await (const piece of response as AsyncIterable<Buffer>) {
          bytes += piece.length;
          if (start.length < 500) start = (start + piece.toString()).slice(0, 500);
          end = (end + piece.toString()).slice(-3000);
          if (leaves !== undefined) {
            await leaves();
            break;
          }
          if (pauseMs > 0) await delay(pauseMs);
        }
        resolve({ status: response.statusCode ?? 0, bytes, start, end });
      })().catch(reject);
    });
    asked.on('error', reject);
    asked.end(JSON.stringify(body));
  });
}

void t.test('no allowed request ends a gateway with a small heap', async (t) => {
  const child = fork(CHILD, { execArgv: ['--max-old-space-size=512', '--enable-source-maps'] });
  t.teardown(() => child.kill());
  let exit: number | null = null;
  child.on('exit', (code) => (exit = code ?? -1));
  const [port] = (await once(child, 'message')) as [number];
  const chat = { messages: [{ role: 'user', content: 'hi' }], ignore_eos: true };
  const scored = { ...chat, n: 64, logprobs: true, top_logprobs: 20 };
  const path = '/v1/chat/completions';
  const health = async (): Promise<number> => {
    const at = performance.now();
    await (await fetch(`http://127.0.0.1:${port}/health`)).text();
    return performance.now() - at;
  };

  const refused = await ask(port, path, { ...scored, max_tokens: 1000 });
  t.equal(refused.status, 400, 'the request of the adversary');
  t.match(
    refused.start,
    /n times max_tokens times \(1 \+ the log-probabilities of a token\) must be at most 524288, got 1344000/,
  );

  let slowest = 0;
  const watch = setInterval(
    () =>
      void health().then(
        (ms) => (slowest = Math.max(slowest, ms)),
        () => undefined,
      ),
    100,
  );
  const largest = { ...scored, max_tokens: 390 };
  const whole = await Promise.all([
    ask(port, path, largest),
    ask(port, path, { ...scored }, { client: '10.0.0.2' }),
    ask(port, path, { ...largest, stream: true }, { client: '10.0.0.3', pauseMs: 5 }),
  ]);
  clearInterval(watch);
  t.strictSame(
    whole.map(({ status }) => status),
    [200, 200, 200],
  );
  t.match(whole[0].end, /"completion_tokens":24960/);
  t.match(whole[1].end, /"completion_tokens":24960/, 'a request without a length gets as many as the rule allows');
  t.match(whole[2].end, /\[DONE\]/);
  t.ok(whole[0].bytes > 20e6, `${whole[0].bytes} bytes`);
  t.comment(`the slowest /health took ${slowest.toFixed(0)} ms`);

  const begun = { ...largest, stream: true };
  const leaves = meeting(4);
  const many = await Promise.all(Array.from({ length: 4 }, () => ask(port, path, begun, { leaves })));
  t.ok(
    many.some(({ status }) => status === 200),
    'a tenant has room for one',
  );
  const full = many.filter(({ status }) => status === 503);
  t.ok(full.length >= 2, 'and not for four');
  t.match(full[0]?.start, /"code":"overloaded"/);
  const plain = await ask(port, path, { ...chat, n: 64, max_tokens: 1000, stream: true }, { leaves: meeting(1) });
  t.equal(plain.status, 200, 'log-probabilities alone are summed');
  t.equal(exit, null, 'the gateway lives');
  t.ok((await health()) < 1000);
});
