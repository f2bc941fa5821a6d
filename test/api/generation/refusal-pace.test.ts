/** The pace of refusals: the first ones at once, the further ones at a fixed rate, by tenant. */
import t from 'tap';
import { RefusalPace } from '../../../src/gateway/api/generation/refusal-pace.js';
import { build, says } from '../../fakes/server.js';
import { movedClock } from '../../support/moved-clock.js';

void t.test('twenty refusals of a tenant leave at once, and few a second of a client without a pause', (t) => {
  const pace = new RefusalPace();
  for (let i = 0; i < 20; i += 1) t.equal(pace.holdMs('a', 1000), 0);
  t.equal(pace.holdMs('a', 1000), 200);
  t.equal(pace.holdMs('a', 1000), 400);
  t.equal(pace.holdMs('b', 1000), 0, 'of another tenant');
  // Eight clients of one tenant, each of which asks again at its answer.
  const next = Array.from({ length: 8 }, () => 2000);
  let count = 0;
  while (Math.min(...next) < 12_000) {
    const now = Math.min(...next);
    next[next.indexOf(now)] = now + pace.holdMs('a', now);
    count += 1;
  }
  t.ok(count >= 75 && count <= 110, `${count} in 10 s`);
  t.equal(pace.holdMs('a', 20_000), 0, 'after a pause');
  t.end();
});

void t.test('a refusal is held for a second at most, and tenants that have paused are forgotten', (t) => {
  const pace = new RefusalPace();
  for (let i = 0; i < 200; i += 1) pace.holdMs('a', 0);
  t.equal(pace.holdMs('a', 0), 1000);
  t.equal(pace.holdMs('a', 1050), 150, 'no debt beyond it');
  for (let i = 0; i < 3000; i += 1) pace.holdMs(`address ${i}`, 5000 + i);
  t.equal(pace.holdMs('a', 8000), 0);
  t.end();
});

void t.test('the server holds refusals of a key, and neither answers nor refusals of another one', async (t) => {
  movedClock(t);
  const reject = { reason: 'budget_infeasible', leastFeasibleMs: 900 } as const;
  const server = await build(t, undefined, { apiKeys: ['bad', 'good'] });
  const { engine } = server;
  engine.script = ({ depth }) => ({ ...says('Yes.')(), ...(depth.budget?.totalMs === 5 && { reject }) });
  const ask = async (key: string, ms: number, stream = false): Promise<{ status: number; ms: number }> => {
    const at = performance.now();
    const headers = { authorization: `Bearer ${key}`, 'X-Latency-Budget-Ms': String(ms) };
    const { status } = await server.post('/v1/completions', { prompt: 'x', stream }, headers);
    return { status, ms: performance.now() - at };
  };
  const flood = await Promise.all(Array.from({ length: 36 }, (_, i) => ask('bad', 5, i % 2 === 0)));
  t.ok(flood.every(({ status }) => status === 503));
  const waits = flood.map(({ ms }) => ms).sort((a, b) => a - b);
  t.ok(Number(waits[19]) < 200 && Number(waits[20]) >= 200, `twenty are not held: ${waits.join()}`);
  t.ok(Number(waits[35]) >= 1000);
  const began = performance.now();
  const held = ask('bad', 5);
  const others = await Promise.all([ask('bad', 60_000), ask('good', 5), ask('good', 60_000)]);
  t.strictSame(
    others.map(({ status }) => status),
    [200, 503, 200],
  );
  const { status } = await held;
  t.equal(status, 503);
  t.ok(performance.now() - began > Math.max(...others.map(({ ms }) => ms)), 'held behind them');
});
