/** Arrival rates. */
import t from 'tap';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { type Arrival, expectedAt } from '../../src/engine/scheduler/depth-bound.js';

const arrivalAt = (at: number, positions: number, budgetMs: number, tenant = 'a'): Arrival => {
  return { at, tenant, promptTokens: positions, positions, budgetMs, maxTokens: 1024, lands: true };
};

/** Arrivals of 200 positions and budgets of 2 s, one each `gapMs`, up to time 0. */
function regular(gapMs: number, sinceMs = 60_000): readonly Arrival[] {
  const arrivals: Arrival[] = [];
  for (let at = -sinceMs; at < 0; at += gapMs) arrivals.push(arrivalAt(at, 200, 2000));
  return arrivals.slice(-defaultPolicy.mostArrivals);
}
const perSecond = (arrivals: readonly Arrival[], now = 0): number =>
  1000 * expectedAt(arrivals, now, defaultPolicy).rate;

void t.test('without arrivals nothing is expected', async (t) => {
  t.same(expectedAt([], 0, defaultPolicy), { rate: 0, promptTokens: 0, positions: 0, asked: [] });
});

for (const gapMs of [50, 100, 1000]) {
  void t.test(`one arrival each ${gapMs} ms is that rate, and falls without arrivals`, async (t) => {
    const arrivals = regular(gapMs);
    t.ok(Math.abs((perSecond(arrivals) * gapMs) / 1000 - 1) < 0.1, `${perSecond(arrivals)} a second`);
    t.ok(
      Math.abs(expectedAt(arrivals, 0, defaultPolicy).positions - 200) < 1e-6,
      'prompts are as long as those that came',
    );
    t.ok(perSecond(arrivals, 5_000) < 0.8 * perSecond(arrivals));
    t.ok(perSecond(arrivals, 600_000) === 0);
  });
}

for (const sinceMs of [8_000, 3_000]) {
  void t.test(`a rate is right ${sinceMs} ms after the first arrival`, async (t) => {
    const found = perSecond(regular(100, sinceMs));
    t.ok(Math.abs(found / 10 - 1) < 0.15, `${found} of 10 a second`);
  });
}

void t.test('a single arrival is no high rate, and after a long pause arrivals begin anew', async (t) => {
  const arrival = (at: number): Arrival => arrivalAt(at, 1, 100);
  const one = perSecond([arrival(0)]);
  t.ok(one > 0 && one <= 0.6, `${one} a second`);
  const again = perSecond([...regular(100), arrival(600_000)], 600_000);
  t.ok(Math.abs(again / one - 1) < 1e-6, `${again} after a pause`);
});

void t.test('budgets of arrivals that are long ago do not count', async (t) => {
  const arrivals = [0, 20_000, 21_000].map((at, i) => arrivalAt(at, 1, i));
  const { asked } = expectedAt(arrivals, 21_000, defaultPolicy);
  t.same(
    asked.map(({ budgetMs }) => budgetMs),
    [1, 2],
  );
});

void t.test('a clock that goes back counts as no time', async (t) => {
  const found = perSecond(regular(100), -30_000);
  t.ok(Number.isFinite(found) && found < 50, `${found} a second`);
});

void t.test('a tenant counts for no more arrivals than all others together', async (t) => {
  const calm = regular(1000, 10_000);
  const flood = Array.from({ length: 54 }, (_, i) => arrivalAt(-540 + 10 * i, 1, 86_400_000, 'flood'));
  const both = [...calm, ...flood].sort((a, b) => a.at - b.at);
  t.ok(perSecond(both) < 2.1 * perSecond(calm), `${perSecond(both)} a second, ${perSecond(calm)} without`);
  t.ok(perSecond(flood) > 10, 'alone, all of them count');
});
