/** All upstreams fail within a second, with many open requests: every armed net is kept, and the others said so. */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import type { Script } from '../fakes/engine.js';
import { build, tokenizer } from '../fakes/server.js';
import { begin, chunk, event, scriptedUpstream, upstream, type Exchange } from '../fakes/upstream.js';
import { until } from '../support/until.js';
import { ask, type Told } from './told.js';

const COUNT = 200;
const BUDGET_MS = 18_000;
/** Arrivals go on for so long. */
const ARRIVALS_MS = 1000;
const PART_MS = 300;
/** Their time. A machine that is busy with other work delays the scripted engine as well as the gateway. */
const SERVED_MS = 15;
const LOCAL = 'It is in France. It is large.';
const tokens = tokenizer.encode(LOCAL, false);
/** An engine that makes answers one after the other, and whose forecasts know of its queue. */
function engine(): (request: { readonly isDryRun?: boolean; readonly isNet?: boolean }) => Script {
  let freeAt = 0;
  return ({ isDryRun, isNet }) => {
    const now = monotonicMs();
    const waitMs = Math.max(0, freeAt - now);
    const promised = { prefillMs: PART_MS, fullMs: PART_MS, besideMs: 0, direct: [] };
    const leastFeasibleMs = waitMs + 2 * PART_MS;
    if (isDryRun === true) return { tokens: [], reject: { reason: 'budget_infeasible', leastFeasibleMs, promised } };
    // Requests without a promise leave nets their time.
    if (isNet !== true) return { tokens: [], reject: { reason: 'budget_infeasible', leastFeasibleMs } };
    freeAt = now + waitMs + SERVED_MS;
    return { tokens, prefill: waitMs + SERVED_MS };
  };
}

type Fail = (exchange: Exchange, index: number) => void;

/** Each ends an exchange of an upstream that has given nothing so far. */
const FAULTS: readonly ((exchange: Exchange) => void)[] = [
  ({ response }) => void response.destroy(),
  ({ response }) => void response.writeHead(503, { 'content-type': 'application/json' }).end('{"error":{}}'),
  (exchange) => {
    begin(exchange);
    exchange.response.write(event(chunk({ role: 'assistant' })));
    exchange.response.destroy();
  },
  (exchange) => {
    begin(exchange);
    exchange.response.end(event('{"error":{"message":"overloaded"}}'));
  },
];

const isArmed = ({ headers }: Told): boolean => headers.get('x-sortie-net') === 'armed';
// Clients share the process: their own times include the start of the other ones.
const isKept = ({ text, report, finishReason }: Told): boolean =>
  text === LOCAL && finishReason === 'stop' && (report?.actual_ms ?? Infinity) <= BUDGET_MS;

async function outage(t: Parameters<typeof build>[0], fail: Fail | null): Promise<Told[]> {
  const there = await scriptedUpstream(t, () => undefined);
  const here = await build(t, engine(), {
    upstreams: [{ ...upstream, url: there.url }],
    nets: { mode: 'answer', observer: null },
  });
  await ask(here, {}, 200);
  there.exchanges.length = 0;
  const asked = Array.from({ length: COUNT }, async (_, i) => {
    await delay((i * ARRIVALS_MS) / COUNT);
    return ask(here, { stream: i % 2 === 0 }, BUDGET_MS);
  });
  await until('all requests', () => there.exchanges.length === COUNT);
  if (fail !== null) there.exchanges.forEach(fail);
  const all = await Promise.all(asked);
  await until('the end of all requests', () => here.app.inFlightResponses.size === 0);
  return all;
}

void t.test('all upstreams fail within a second', { timeout: 120_000 }, async (t) => {
  const cases: [string, Fail | null][] = [
    // The scripted engine serves by arrival, as deadlines are in that order.
    ['with faults', (exchange, i) => void setTimeout(() => FAULTS[i % FAULTS.length]?.(exchange), i * 5)],
    ['silently', null],
  ];
  for (const [name, fail] of cases) {
    const all = await outage(t, fail);
    const armed = all.filter(isArmed);
    const kept = armed.filter(isKept);
    const others = all.filter((each) => !isArmed(each));
    const byClient = kept.filter(({ ms }) => ms <= BUDGET_MS).length;
    t.comment(`${name}: ${armed.length} of ${COUNT} armed, ${kept.length} kept, ${byClient} by the clients' clock`);
    t.ok(armed.length >= (0.5 * BUDGET_MS) / PART_MS && armed.length < COUNT, 'as many are armed as have time');
    // The clients, the gateway and the upstream share a process: a delay of two parts in it loses a net.
    const missed = armed.find((each) => !isKept(each));
    if (missed !== undefined) t.comment(`not kept: ${JSON.stringify(missed.json ?? missed)}`);
    t.ok(kept.length >= 0.99 * armed.length, `${kept.length} of ${armed.length} armed nets are kept`);
    t.ok(
      others.every(({ headers }) => headers.get('x-sortie-net-reason') === 'capacity'),
      'the others said that they have none',
    );
    t.ok(others.every(({ error }) => error !== undefined));
  }
});
