/** What is learnt from requests: how careful promises are, what predictions are worth. */
import t from 'tap';
import { estimateMs, noEstimate, observeEstimate } from '../../src/router/estimate.js';
import { noPromises, observePromise } from '../../src/router/promises.js';
import { seeded } from '../../src/simulate/workload.js';

void t.test('promises settle where one in a hundred is broken', async (t) => {
  const random = seeded(1);
  let promises = noPromises;
  let broken = 0;
  // Whatever margin there is, an answer may need up to 40% more than planned: 40 in 100 are beyond a margin of 0.24.
  for (let i = 0; i < 20_000; i += 1) {
    const kept = 0.4 * random() <= promises.margin;
    if (!kept && i >= 2_000) broken += 1;
    promises = observePromise(promises, kept);
  }
  t.ok(broken / 18_000 < 0.015, `${broken} of 18000`);
  t.ok(promises.margin > 0.3 && promises.margin < 0.55, `${promises.margin}`);
});

void t.test(
  'promises that are always kept need no margin, and none can ask for more than twice the time',
  async (t) => {
    let kept = noPromises;
    let broken = noPromises;
    for (let i = 0; i < 1000; i += 1) {
      kept = observePromise(kept, true);
      broken = observePromise(broken, false);
    }
    t.equal(kept.margin, 0);
    t.equal(broken.margin, 1);
  },
);

void t.test('an estimate finds the median of what comes of forecasts, and what it depends on', async (t) => {
  const random = seeded(2);
  let estimate = noEstimate;
  const outlook = (loose: boolean, forecastMs: number) => {
    return { forecastMs, aloneMs: 200, depthMs: 200, budgetMs: loose ? 2000 : 400, room: loose ? 5 : 1.5 };
  };
  t.equal(estimateMs(estimate, outlook(true, 300)), 300, 'nothing learnt: the forecast');
  for (let i = 0; i < 600; i += 1) {
    const loose = i % 2 === 0;
    const seen = outlook(loose, 200 + 200 * random());
    // Loose ones take twice their forecast, give or take a half; a few take ten times as long.
    const odd = i % 50 === 7 ? 10 : 1;
    estimate = observeEstimate(estimate, seen, seen.forecastMs * (loose ? 2 : 1) * (0.75 + 0.5 * random()) * odd);
  }
  const loose = estimateMs(estimate, outlook(true, 300)) / 600;
  const tight = estimateMs(estimate, outlook(false, 300)) / 300;
  t.ok(loose > 0.85 && loose < 1.15, `loose ${loose}`);
  t.ok(tight > 0.85 && tight < 1.15, `tight ${tight}`);
  t.same(observeEstimate(estimate, outlook(true, 300), NaN), estimate, 'no time teaches nothing');
});

void t.test('estimates stay sane when traffic never changes', async (t) => {
  let estimate = noEstimate;
  const same = { forecastMs: 300, aloneMs: 200, depthMs: 200, budgetMs: Infinity, room: Infinity };
  for (let i = 0; i < 20_000; i += 1) estimate = observeEstimate(estimate, same, 330);
  t.ok(Math.abs(estimateMs(estimate, same) - 330) < 1);
  t.ok(estimate.weights.every(Number.isFinite));
});
