/** Connections to an upstream serve one request after the other. */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { both, ask } from './told.js';
import { build, tokenizer } from '../fakes/server.js';
import { begin, chunk, event, say, scriptedUpstream, upstream, type UpstreamScript } from '../fakes/upstream.js';
import { movedClock } from '../support/moved-clock.js';
import { until } from '../support/until.js';
import { monotonicMs } from '../../src/util/clock.js';
import { Deadline } from '../../src/gateway/upstream/deadline.js';

/** Most servers write the end of the body behind the last event, in a packet of its own. */
const tells =
  (endMs: number): UpstreamScript =>
  async (exchange) => {
    begin(exchange);
    await say(exchange, 'Paris. ');
    exchange.response.write(event(chunk({}, 'stop')) + event('[DONE]'));
    await delay(endMs);
    exchange.response.end();
  };

void t.test('a body that ends behind its last event keeps its connection', async (t) => {
  const { there, here } = await both(t, tells(10));
  for (const stream of [true, false, true]) {
    t.equal((await ask(here, { stream }, BUDGET_MS)).text, 'Paris. ');
    await delay(50);
  }
  const ports = there.exchanges.map(({ response }) => response.req.socket.remotePort);
  t.equal(new Set(ports).size, 1, ports.join(' '));
});

void t.test('a body without an end delays no answer, and loses its connection', async (t) => {
  const { there, here } = await both(t, tells(60_000));
  const told = await ask(here, { stream: true }, BUDGET_MS);
  t.match(told, { text: 'Paris. ', last: '[DONE]' });
  t.equal(there.exchanges[0]?.closedAt, null);
  await until('the end of the connection', () => there.exchanges[0]?.closedAt != null);
});

const BUDGET_MS = 2500;
const body = { model: 'big', messages: [], stream: true, sortie: { latency_budget_ms: BUDGET_MS } };

void t.test('with an armed net they do by default: an answer is sure to come', async (t) => {
  movedClock(t);
  const there = await scriptedUpstream(t, () => undefined);
  const here = await build(t, () => ({ tokens: tokenizer.encode('It is Paris.', false), sentenceMs: 300 }), {
    upstreams: [{ ...upstream, url: there.url }],
    nets: { mode: 'answer', observed: () => undefined },
  });
  const asks = { ...body, messages: [{ role: 'user', content: 'Where is it?' }] };
  const text = await (await here.post('/v1/chat/completions', asks)).text();
  t.match(text, /^: keep-alive\n\n/);
  t.match(text, /"source":"net"[^]*data: \[DONE\]\n\n$/);
});

// Answers that end together begin to end earlier: one thread writes them one after the other.

void t.test('each deadline beside others leaves them time, to a tenth of its budget', (t) => {
  const now = Math.ceil(monotonicMs());
  const many = Array.from({ length: 200 }, () => new Deadline(now, 6000));
  const left = many.map(({ endsAt }) => now + 6000 - endsAt);
  t.strictSame([left[0], left[1], left[199]], [20, 20.75, 169.25]);
  const [short, later] = [new Deadline(now + 5500, 500), new Deadline(now, 7000)];
  t.equal(now + 6000 - short.endsAt, 50);
  t.equal(now + 7000 - later.endsAt, 20, 'another second');
  for (const each of [...many, short, later]) each.close();
  const alone = new Deadline(now, 6000);
  t.equal(now + 6000 - alone.endsAt, 20);
  alone.close();
  t.end();
});

void t.test(
  'a sentence that may not end in time is held, for as long as usual and a share of the budget at most',
  (t) => {
    const deadline = new Deadline(Math.ceil(monotonicMs()), 6000);
    const holdsAhead = (ms: number, paceMs: number): boolean => {
      const now = deadline.endsAt - ms;
      return deadline.holds(now, now - paceMs, 1);
    };
    const ahead = (paceMs: number): number => {
      let ms = 1;
      while (holdsAhead(ms + 1, paceMs)) ms += 1;
      return ms;
    };
    t.strictSame([1, 500, 5000].map(ahead), [500, 1000, 3000]);
    deadline.close();
    t.end();
  },
);
