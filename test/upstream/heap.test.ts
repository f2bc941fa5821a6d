/** A gateway with a heap of 512 MB beside upstreams that send text without end or bounds. */
import { pipeline } from 'node:stream/promises';
import t from 'tap';
import { main, readyUrl, start } from '../deploy/helper.js';
import { answers, begin, chunk, event, scriptedUpstream, starts, type UpstreamScript } from '../fakes/upstream.js';
import { post } from '../support/post.js';

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

void t.test('it lives, and answers others', async (t) => {
  const there = await scriptedUpstream(t, answers('Yes.'));
  const flags = ['--no-local', '--threads', '1', '--upstream', there.url.href, '--upstream-model', 'big'];
  const serve = ['--max-old-space-size=512', main, 'serve', '--port', '0', '--host', '127.0.0.1', ...flags];
  const server = start(t, process.execPath, serve);
  const path = `${await readyUrl(server)}/v1/chat/completions`;
  const ask = async (body: object, budgetMs: number) => {
    const budget: Record<string, string> = budgetMs > 0 ? { 'x-latency-budget-ms': String(budgetMs) } : {};
    const response = await post(path, { model: 'big', messages: [], ...body }, budget);
    return response.text();
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
  t.equal(server.exitCode, null);
});
