/** The choice of smoothed inputs, and their factors. */
import t from 'tap';
import { imbalance, smoothingFactors } from '../../../src/convert/smoothing.js';

const ones = (k: number): Float32Array => new Float32Array(k).fill(1);

void t.test('imbalance is 1 for equal channels, and grows with an outlier in any unit', (t) => {
  t.equal(imbalance(ones(16)), 1);
  t.equal(imbalance(new Float32Array(16)), 1, 'an input of zeros is balanced');
  const outlier = ones(100);
  outlier[7] = 10_000;
  t.ok(Math.abs(imbalance(outlier) - 10 / Math.sqrt(1.0099)) < 0.1, String(imbalance(outlier)));
  const isEqual = Math.abs(imbalance(outlier.map((value) => value * 1000)) - imbalance(outlier)) < 1e-6;
  t.ok(isEqual, 'sums give the same as means');
  t.end();
});

void t.test('a balanced input is not smoothed', (t) => {
  const channels = ones(64);
  channels[3] = 4;
  t.equal(smoothingFactors(channels, ones(64)), null);
  t.end();
});

void t.test('an outlier has a large factor, larger for smaller weights', (t) => {
  const channels = ones(64);
  channels[3] = 10_000;
  const columns = ones(64);
  const factors = smoothingFactors(channels, columns);
  if (factors === null) throw new Error('not smoothed');
  t.ok((factors[3] ?? 0) > 5 * (factors[0] ?? 0));
  t.equal(factors[1], factors[0]);
  columns[3] = 0.01;
  t.ok((smoothingFactors(channels, columns)?.[3] ?? 0) > (factors[3] ?? 0));
  const product = factors.reduce((sum, factor) => sum + Math.log(factor), 0);
  t.ok(Math.abs(product) < 1e-3, 'factors are centred on 1');
  t.end();
});

void t.test('channels of zeros, and channels that no weight reads, have a factor of 1', (t) => {
  const channels = ones(64);
  channels[0] = 10_000;
  channels[1] = 0;
  const columns = ones(64);
  columns[2] = 0;
  const factors = smoothingFactors(channels, columns);
  t.equal(factors?.[1], 1);
  t.equal(factors?.[2], 1);
  t.ok(factors?.every((factor) => factor > 0 && Number.isFinite(factor)));
  t.end();
});
