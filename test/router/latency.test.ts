/** The correction of forecasts: the median of what came of them, and the interval that holds 80% of outcomes. */
import t from 'tap';
import {
  initialTotal,
  initialTtft,
  observeBounds,
  observeLatency,
  predictedMs,
} from '../../src/router/estimators/latency.js';
import type { LatencyFeatures } from '../../src/router/types.js';
import { seeded } from '../../src/simulate/workload.js';

const seen: LatencyFeatures = {
  ...{ forecastMs: 1000, aloneMs: 500, budgetMs: 2000, arrivals: 0 },
};

void t.test('a correction finds the median of what comes of forecasts, and what it depends on', async (t) => {
  const random = seeded(2);
  let model = initialTtft;
  const features = (isLoose: boolean, forecastMs: number): LatencyFeatures => {
    return {
      ...seen,
      forecastMs,
      aloneMs: 200,
      ...(isLoose ? { budgetMs: 2000 } : { budgetMs: 150 }),
    };
  };
  t.equal(predictedMs(model, features(true, 300)), 300, 'nothing learnt: the forecast');
  for (let i = 0; i < 3000; i += 1) {
    const isLoose = i % 2 === 0;
    const each = features(isLoose, 200 + 200 * random());
    // Loose ones take twice their forecast, give or take a half; a few take ten times as long.
    const odd = i % 50 === 7 ? 10 : 1;
    model = observeLatency(model, each, each.forecastMs * (isLoose ? 2 : 1) * (0.75 + 0.5 * random()) * odd);
  }
  const loose = predictedMs(model, features(true, 300)) / 600;
  const tight = predictedMs(model, features(false, 300)) / 300;
  t.ok(loose > 0.85 && loose < 1.15, `loose ${loose}`);
  t.ok(tight > 0.85 && tight < 1.15, `tight ${tight}`);
});

void t.test('an outcome without a time teaches nothing', async (t) => {
  for (const ms of [NaN, 0, -5]) t.equal(observeLatency(initialTotal, seen, ms), initialTotal, `${ms} ms`);
  t.equal(observeLatency(initialTotal, { ...seen, forecastMs: 0 }, 5), initialTotal);
});

void t.test('at first, a forecast beyond the budget comes to less, and expected arrivals to more', async (t) => {
  const loose = predictedMs(initialTotal, seen);
  const tight = predictedMs(initialTotal, { ...seen, budgetMs: 500 });
  t.ok(tight < 0.8 * loose && tight < 600, `${tight} of ${loose}`);
  t.ok(predictedMs(initialTotal, { ...seen, arrivals: 2 }) > 1.1 * loose);
});

void t.test('predictions stay finite while traffic never changes, and within a factor of four', async (t) => {
  let model = initialTtft;
  const same = { ...seen, forecastMs: 300, aloneMs: 200, budgetMs: Infinity };
  for (let i = 0; i < 20_000; i += 1) model = observeLatency(model, same, 330);
  t.ok(Math.abs(predictedMs(model, same) - 330) < 3, `${predictedMs(model, same)}`);
  t.ok(model.every(Number.isFinite));
  for (let i = 0; i < 20_000; i += 1) model = observeLatency(model, same, 1e6);
  t.ok(predictedMs(model, same) <= 1200.01, `${predictedMs(model, same)}`);
});

void t.test('the bounds settle where 80% of outcomes are between them', async (t) => {
  const random = seeded(3);
  let bounds = { low: 0, high: 0 };
  let within = 0;
  for (let i = 0; i < 5000; i += 1) {
    const [low, high] = [1000 * Math.exp(bounds.low), 1000 * Math.exp(bounds.high)];
    const actual = 1000 * Math.exp(2 * random() - 1);
    if (i >= 1000 && actual >= low && actual <= high) within += 1;
    bounds = observeBounds(bounds, low, high, actual);
  }
  t.ok(within / 4000 > 0.76 && within / 4000 < 0.84, `${within} of 4000`);
});
