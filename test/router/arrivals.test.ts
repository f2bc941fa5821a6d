/** Arrival rates. */
import t from 'tap';
import { Arrivals } from '../../src/router/estimators/arrivals.js';

/** Arrivals of 200 positions and 40 tokens, one each `gapMs`, up to time 0. */
function regular(gapMs: number, sinceMs = 60_000): Arrivals {
  let arrivals = Arrivals.none;
  for (let at = -sinceMs; at < 0; at += gapMs) arrivals = arrivals.with(at, 200, 40);
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

void t.test('an arrival that is tried leaves the estimate as it was', async (t) => {
  const arrivals = regular(100);
  const before = arrivals.within(0, 1);
  arrivals.with(0, 1e6, 1e6);
  t.strictSame(arrivals.within(0, 1), before);
});

void t.test('a clock that goes back counts as no time', async (t) => {
  const { requests } = regular(100).within(-30_000, 1);
  t.ok(Number.isFinite(requests) && requests < 0.02, `${requests}`);
});
