/** Predictions: the correction of forecasts, and the interval that holds 80% of outcomes. */
import t from 'tap';
import { observeBounds, predictedMs } from '../../src/router/estimators/latency.js';
import type { Forecast } from '../../src/router/index.js';
import { seeded } from '../../src/util/random.js';

const seen: Forecast = { totalMs: 1000, ttftMs: 100, budgetMs: 2000, arrivals: 0 };

void t.test('a forecast beyond the budget comes to less, and expected arrivals to more', async (t) => {
  const loose = predictedMs(seen);
  const tight = predictedMs({ ...seen, budgetMs: 500 });
  t.ok(tight < 0.8 * loose && tight < 600, `${tight} of ${loose}`);
  t.ok(predictedMs({ ...seen, arrivals: 2 }) > 1.1 * loose);
});

void t.test('predictions stay within a factor of four of the forecast', async (t) => {
  t.ok(predictedMs({ ...seen, budgetMs: 1 }) >= 249.9);
  t.ok(predictedMs({ ...seen, budgetMs: Infinity, arrivals: 1e9 }) <= 4000.1);
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
