/**
 * A gateway with a heap of 512 MB, half of a container of 1 GiB: no allowed request ends it, and no upstream that sends
 * text without end or bounds.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { answers, begin, chunk, event, scriptedUpstream, starts, type UpstreamScript } from '../fakes/upstream.js';
import { post } from '../support/post.js';

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

/** The gateway in a process. @param upstreamUrl of its model `big`, if it has one */
async function gateway(t: Test, upstreamUrl = '') {
  const execArgv = ['--max-old-space-size=512', '--enable-source-maps'];
  const child = fork(CHILD, { execArgv, env: { ...process.env, SORTIE_TEST_UPSTREAM: upstreamUrl } });
  t.teardown(() => child.kill());
  const [port] = (await once(child, 'message')) as [number];
  return { child, port };
}

void t.test('no allowed request ends a gateway with a small heap', async (t) => {
  const { child, port } = await gateway(t);
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
  t.equal(child.exitCode, null, 'the gateway lives');
  t.ok((await health()) < 1000);
});

// Upstreams.

/** Writes a text until the gateway leaves. */
const endless =
  (text: string): UpstreamScript =>
  (exchange) => {
    begin(exchange);
    const part = text.repeat(Math.ceil(65_536 / text.length));
    return pipeline(function* () {
      for (;;) yield part;
    }, exchange.response).catch(() => undefined);
  };

const thoughts = event(chunk({ reasoning_content: 'thinking about it and about ' }));
const words = event(chunk({ content: 'word and ' }));
const list = event(chunk({ content: '', x: [1, 2, 3] }, null, { logprobs: { content: [{ token: 'a' }] } }));

interface Flood {
  readonly script: UpstreamScript;
  readonly asked?: object;
  readonly budgetMs?: number;
  readonly clients?: number;
}

const FLOODS: Readonly<Record<string, Flood>> = {
  'thoughts, for a whole answer': { script: endless(thoughts) },
  'words without a sentence, for a whole answer': { script: endless(words) },
  'words without a sentence, for four streams of sentences': {
    ...{ script: endless(words), asked: { stream: true, sortie: { commit: 'sentence' } }, clients: 4 },
  },
  'lists that grow': { script: endless(list) },
  'empty lines of data': { script: endless('data:\n') },
  'empty lines of data, without a budget': { script: endless('data:\n'), asked: { stream: true }, budgetMs: 0 },
  'a line without an end': { script: endless('data: a'.repeat(10)) },
};

void t.test('no upstream ends it, and it answers others', async (t) => {
  const there = await scriptedUpstream(t, answers('Yes.'));
  const { child, port } = await gateway(t, there.url.href);
  const ask = async (body: object, budgetMs: number) => {
    const budget: Record<string, string> = budgetMs > 0 ? { 'x-latency-budget-ms': String(budgetMs) } : {};
    const path = `http://127.0.0.1:${port}/v1/chat/completions`;
    return (await post(path, { model: 'big', messages: [], ...body }, budget)).text();
  };
  for (const [name, { script, asked = {}, budgetMs = 120_000, clients = 1 }] of Object.entries(FLOODS)) {
    there.script = script;
    const told = await Promise.all(Array.from({ length: clients }, () => ask(asked, budgetMs)));
    for (const each of told) t.match(each, /"code":"(upstream_failed|overloaded)"/, name);
    there.script = answers('Yes.');
    t.match(await ask({}, 60_000), '"Yes."', `an answer behind ${name}`);
  }
  there.script = async (exchange) => {
    await starts(exchange, 'Hello there.');
    exchange.response.end(event(chunk({ content: ' '.repeat(200_000) })) + event(chunk({ content: 'end' }, 'stop')));
  };
  t.match(await ask({}, 60_000), /"content":"Hello there\. +end"/, 'blanks behind a sentence');
  t.equal(child.exitCode, null);
});
