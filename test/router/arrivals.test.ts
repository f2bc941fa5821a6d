/** Arrival rates by how soon they are due. */
import t from 'tap';
import { Arrivals } from '../../src/router/estimators/arrivals.js';
import type { Budget } from '../../src/router/types.js';
import { total, unstated } from './fixtures.js';

/** Arrivals of 200 positions and 40 tokens, one each `gapMs`, up to time 0. */
function regular(gapMs: number, budget: Budget | null, sinceMs = 60_000): Arrivals {
  let arrivals = Arrivals.none;
  for (let at = -sinceMs; at < 0; at += gapMs) arrivals = arrivals.with(at, 200, 40, budget);
  return arrivals;
}

void t.test('rates are those of the arrivals, and fall without them', async (t) => {
  const arrivals = regular(100, total(1));
  // Requests that are due within a second, a millisecond after their arrival.
  const { requests, positions, tokens } = arrivals.dueWithin(0, 1)(1001);
  t.ok(Math.abs(requests / 10 - 1) < 0.05, `${requests}`);
  t.ok(Math.abs(positions / requests - 200) < 1e-6);
  t.ok(Math.abs(tokens / requests - 40) < 1e-6);
  t.ok(Math.abs(arrivals.perMs(0) * 100 - 1) < 0.05, 'all requests count');
  t.ok(Math.abs(regular(100, null).perMs(0) * 100 - 1) < 0.05, 'with a budget or without');
  t.ok(arrivals.perMs(60_000) < 1e-5);
  t.equal(Arrivals.none.perMs(0), 0);
});

void t.test('an arrival counts before a deadline only if it is due by then', async (t) => {
  const due = (budget: Budget | null, horizonMs: number): number =>
    regular(100, budget).dueWithin(0, 1)(horizonMs).requests;
  t.equal(due(total(2000), 500), 0, 'it is due later');
  t.ok(due(total(2000), 20_000) > 100);
  t.ok(due(total(200), 2000) > due(total(1000), 2000));
  t.equal(due(null, 1e6), 0, 'a request without a budget is never due');
  t.equal(due({ ...unstated, ttftMs: null, tpotMs: null }, 1e6), 0);
});

void t.test('a TTFT and a TPOT say when an arrival is due, a total where it is sooner', async (t) => {
  const due = (budget: Budget): number => regular(100, budget).dueWithin(0, 1)(2000).requests;
  t.ok(due({ ...unstated, ttftMs: 100 }) > 0);
  t.equal(due({ ...unstated, ttftMs: 100, tpotMs: 1000 }), 0, '40 tokens of a second each');
  t.ok(due({ ...unstated, totalMs: 300, ttftMs: 100, tpotMs: 1000 }) > 0);
});

void t.test('arrivals that trust their deadline less are due sooner', async (t) => {
  const due = (fraction: number): number => regular(100, total(1000)).dueWithin(0, fraction)(1200).requests;
  t.ok(due(0.5) > due(1), `${due(0.5)} and ${due(1)}`);
});

void t.test('an arrival that is tried leaves the estimate as it was', async (t) => {
  const arrivals = regular(100, null);
  const before = arrivals.perMs(0);
  arrivals.with(0, 1e6, 1e6, total(100));
  t.equal(arrivals.perMs(0), before);
  t.equal(arrivals.dueWithin(0, 1)(1e6).requests, 0);
});

void t.test('a clock that goes back counts as no time', async (t) => {
  const perMs = regular(100, null).perMs(-30_000);
  t.ok(Number.isFinite(perMs) && perMs < 0.02, `${perMs}`);
});
