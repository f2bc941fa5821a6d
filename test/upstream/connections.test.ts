/** Connections to an upstream serve one request after the other. */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { build } from '../fakes/server.js';
import { begin, chunk, event, say, scriptedUpstream, upstream, type UpstreamScript } from '../fakes/upstream.js';
import { until } from '../support/until.js';
import { ask } from './told.js';

/** Most servers write the end of the body behind the last event, in a packet of its own. */
const tells =
  (endMs: number): UpstreamScript =>
  async (exchange) => {
    begin(exchange);
    await say(exchange, 'Paris. ');
    exchange.response.write(event(chunk({}, 'stop')) + event('[DONE]'));
    await delay(endMs, undefined, { ref: false });
    exchange.response.end();
  };

void t.test('a body that ends behind its last event keeps its connection', async (t) => {
  const there = await scriptedUpstream(t, tells(10));
  const here = await build(t, undefined, { upstreams: [{ ...upstream, url: there.url }] });
  for (const stream of [true, false, true]) {
    t.equal((await ask(here, { stream }, 60_000)).text, 'Paris. ');
    await delay(50);
  }
  const ports = there.exchanges.map(({ response }) => response.req.socket.remotePort);
  t.equal(new Set(ports).size, 1, ports.join(' '));
});

void t.test('a body without an end delays no answer, and loses its connection', async (t) => {
  const there = await scriptedUpstream(t, tells(60_000));
  const here = await build(t, undefined, { upstreams: [{ ...upstream, url: there.url }] });
  const told = await ask(here, { stream: true }, 30_000);
  t.match(told, { text: 'Paris. ', last: '[DONE]' });
  t.equal(there.exchanges[0]?.closedAt, null);
  await until('the end of the connection', () => there.exchanges[0]?.closedAt != null);
});
