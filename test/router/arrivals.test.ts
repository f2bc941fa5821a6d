/** Arrival rates. */
import t from 'tap';
import { Arrivals } from '../../src/router/estimators/arrivals.js';
import type { Budget } from '../../src/router/types.js';
import { total, unstated } from './fixtures.js';

/** Arrivals of 200 positions and 40 tokens, one each `gapMs`, up to time 0. */
function regular(gapMs: number, budget: Budget | null = total(1), sinceMs = 60_000): Arrivals {
  let arrivals = Arrivals.none;
  for (let at = -sinceMs; at < 0; at += gapMs) arrivals = arrivals.with(at, 200, 40, budget);
  return arrivals;
}

void t.test('rates are those of the arrivals, and fall without them', async (t) => {
  const arrivals = regular(100);
  const { requests, positions, tokens } = arrivals.within(0, 1000);
  t.ok(Math.abs(requests / 10 - 1) < 0.05, `${requests}`);
  t.ok(Math.abs(positions / requests - 200) < 1e-6);
  t.ok(Math.abs(tokens / requests - 40) < 1e-6);
  t.ok(Math.abs(arrivals.within(0, 2000).requests / requests - 2) < 1e-6, 'twice the time has twice the arrivals');
  t.ok(arrivals.within(60_000, 1).requests < 1e-5);
  t.equal(Arrivals.none.within(0, 1e6).requests, 0);
});

void t.test('a rate is right soon after the first arrivals, and after a pause', async (t) => {
  for (const since of [8_000, 5_000]) {
    const { requests } = regular(100, total(1), since).within(0, 1000);
    t.ok(Math.abs(requests / 10 - 1) < 0.05, `${requests} after ${since} ms`);
  }
  const one = Arrivals.none.with(0, 1, 1, null).within(0, 1000).requests;
  t.ok(one < 0.4, `one arrival counts as ${one} a second`);
  t.equal(
    regular(100).with(60_000, 1, 1, null).within(60_000, 1000).requests.toFixed(2),
    one.toFixed(2),
    'after a minute',
  );
});

void t.test('an arrival counts before a deadline only if it is due by then', async (t) => {
  const due = (budget: Budget | null, ms: number): number => regular(100, budget).dueWithin(0, ms).requests;
  t.equal(due(total(2000), 500), 0, 'it is due later');
  t.ok(due(total(2000), 20_000) > 100);
  t.ok(due(total(200), 2000) > due(total(1000), 2000));
  t.equal(due(null, 1e6), 0, 'a request without a budget is never due');
  t.equal(due({ ...unstated, ttftMs: null, tpotMs: null }, 1e6), 0);
  t.ok(regular(100, null).within(0, 1000).requests > 9, 'all requests arrive');
});

void t.test('a TTFT and a TPOT say when an arrival is due, a total where it is sooner', async (t) => {
  const due = (budget: Budget): number => regular(100, budget).dueWithin(0, 2000).requests;
  t.ok(due({ ...unstated, ttftMs: 100 }) > 0);
  t.equal(due({ ...unstated, ttftMs: 100, tpotMs: 1000 }), 0, '40 tokens of a second each');
  t.ok(due({ ...unstated, totalMs: 300, ttftMs: 100, tpotMs: 1000 }) > 0);
});

void t.test('an arrival that is tried leaves the estimate as it was', async (t) => {
  const arrivals = regular(100);
  const before = arrivals.within(0, 1);
  arrivals.with(0, 1e6, 1e6, total(100));
  t.strictSame(arrivals.within(0, 1), before);
});

void t.test('a clock that goes back counts as no time', async (t) => {
  const { requests } = regular(100).within(-30_000, 1);
  t.ok(Number.isFinite(requests) && requests < 0.02, `${requests}`);
});
