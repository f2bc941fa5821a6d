/** A hundred requests at once to an upstream with faults: each ends by its deadline, and no text is taken back. */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { build, says } from '../fakes/server.js';
import {
  begin,
  chunk,
  event,
  finish,
  say,
  scriptedUpstream,
  upstream,
  type UpstreamScript,
} from '../fakes/upstream.js';
import { until } from '../support/until.js';
import { ask } from './told.js';

const COUNT = 100;
const BUDGET_MS = 1500;
/** A machine that is busy with other work delays timers. */
const SLACK_MS = 4000;
const TEXT = Array.from({ length: 40 }, (_, index) => `Sentence ${index} is here.`).join(' ');

/** The faults, by the number of the request. */
const SCRIPTS: readonly UpstreamScript[] = [
  async (exchange) => {
    begin(exchange);
    await say(exchange, TEXT, 20);
    finish(exchange);
  },
  async (exchange) => {
    begin(exchange);
    await say(exchange, TEXT, 1);
    finish(exchange);
  },
  async (exchange) => {
    begin(exchange);
    await say(exchange, TEXT.slice(0, 200), 5);
    exchange.response.destroy();
  },
  () => undefined,
  ({ response }) => response.writeHead(500, { 'content-type': 'application/json' }).end('{"error":{"code":"500"}}'),
  async (exchange) => {
    begin(exchange);
    exchange.response.write(event(chunk({ role: 'assistant' })));
    await say(exchange, TEXT.slice(0, 300), 2);
    await delay(3000, undefined, { ref: false });
  },
];

void t.test(`${COUNT} at once`, async (t) => {
  let next = 0;
  const there = await scriptedUpstream(t, (exchange) => SCRIPTS[next++ % SCRIPTS.length]?.(exchange));
  const here = await build(t, says('Local.'), { upstreams: [{ ...upstream, url: there.url }] });
  const all = await Promise.all(
    Array.from({ length: COUNT }, (_, index) =>
      ask(here, { stream: index % 2 === 0, sortie: { commit: index % 4 < 2 ? 'sentence' : 'text' } }, BUDGET_MS),
    ),
  );
  // Clients share the process: their own times include the start of the other ones.
  const latest = Math.max(...all.map(({ report }) => report?.actual_ms ?? 0));
  t.ok(latest < BUDGET_MS + SLACK_MS, `the latest answer ended after ${latest} ms`);
  for (const told of all) {
    if (!TEXT.startsWith(told.text)) t.fail(`no beginning of the text: ${told.text}`);
    if (told.isStream && told.last !== '[DONE]') t.fail('a stream has its last event');
    if (told.ids.size > 1) t.fail('an answer has one id');
    const isWhole = told.finishReason === 'stop';
    if (isWhole && !told.text.trimEnd().endsWith('.')) t.fail(`no whole sentence: ${told.text}`);
    if (!isWhole && told.finishReason !== 'length' && told.error === undefined) t.fail('it has an end or an error');
  }
  const ends = new Map<string, number>();
  for (const { finishReason, error } of all) {
    const end = finishReason ?? error?.code ?? 'none';
    ends.set(end, (ends.get(end) ?? 0) + 1);
  }
  t.comment(JSON.stringify(Object.fromEntries(ends)));
  t.ok((ends.get('stop') ?? 0) >= COUNT / 3);
  await until('the end of all connections', () => there.exchanges.every(({ closedAt }) => closedAt !== null));
  t.equal(here.app.inFlightResponses.size, 0);
});
