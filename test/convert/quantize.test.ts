/** The int4 quantizers: GPTQ is better than rounding to nearest by the measure that it minimizes. */
import t from 'tap';
import { gptq, inverseFactor, quantizeToNearest } from '../../src/convert/quantize/int4.js';
import { type CodedRows, levelsOf, quantizeBlocks8, quantizeRowsTransposed } from '../../src/convert/quantize/int8.js';
import { random } from './tiny.js';

const ROWS = 20;
const K = 72; // no multiple of the block: the last block is padded
const BLOCK = 32;
const BLOCKS = 3;

/** Approximately normal. */
function normal(next: () => number): number {
  return next() + next() + next() + next();
}

function decode4({ q, codes, units }: CodedRows): Float32Array {
  return Float32Array.from({ length: ROWS * K }, (_, i) => {
    const row = Math.floor(i / K);
    const column = i % K;
    const byte = q[(row * BLOCKS * BLOCK + column) >> 1] ?? 0;
    const level = (column & 1 ? byte >> 4 : byte & 15) - 8;
    return level * (codes[row * BLOCKS + Math.floor(column / BLOCK)] ?? 0) * (units[row] ?? 0);
  });
}

/** Sum of e H e^T over the rows. */
function outputError(weights: Float32Array, rounded: Float32Array, hessian: Float32Array): number {
  let total = 0;
  for (let r = 0; r < ROWS; r++)
    for (let i = 0; i < K; i++)
      for (let j = 0; j < K; j++) {
        const e = (c: number): number => (weights[r * K + c] ?? 0) - (rounded[r * K + c] ?? 0);
        total += e(i) * (hessian[i * K + j] ?? 0) * e(j);
      }
  return total;
}

const next = random(5);
const weights = Float32Array.from({ length: ROWS * K }, () => normal(next));
const identity = Float32Array.from({ length: K * K }, (_, i) => (i % (K + 1) === 0 ? 1 : 0));

void t.test('on uncorrelated inputs GPTQ only searches for the scale of least squared error', async (t) => {
  const nearest = decode4(quantizeToNearest(weights, K, BLOCK));
  const searched = decode4(gptq(inverseFactor(identity, K))(weights, K, BLOCK));
  t.ok(outputError(weights, searched, identity) < 0.97 * outputError(weights, nearest, identity));
  nearest.forEach((value, i) => {
    const from = i - ((i % K) % BLOCK);
    const to = Math.min(from + BLOCK, i - (i % K) + K);
    const largest = weights.subarray(from, to).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    // Half a step, a whole step for the end that the levels do not reach, and the error of the coarse scale.
    if (Math.abs(value - (weights[i] ?? 0)) > (1.1 * largest) / 8) t.fail(`weight ${i}: ${value}, not ${weights[i]}`);
  });
});

void t.test('GPTQ beats rounding to nearest on correlated inputs', async (t) => {
  const hessian = new Float32Array(K * K);
  for (let sample = 0; sample < 400; sample++) {
    const common = normal(next);
    const x = Float32Array.from({ length: K }, (_, i) => normal(next) + (i % 3) * common);
    for (let i = 0; i < K; i++)
      for (let j = 0; j < K; j++) hessian[i * K + j] = (hessian[i * K + j] ?? 0) + (x[i] ?? 0) * (x[j] ?? 0);
  }
  const corrected = decode4(gptq(inverseFactor(hessian, K))(weights, K, BLOCK));
  const nearest = decode4(quantizeToNearest(weights, K, BLOCK));
  t.ok(outputError(weights, corrected, hessian) < 0.7 * outputError(weights, nearest, hessian));
});

for (const bits of [8, 7.5])
  void t.test(`rounding to ${bits} bits has an error of at most half a step`, async (t) => {
    const levels = levelsOf(bits);
    const { q, codes, units } = quantizeBlocks8(weights, K, BLOCK, levels);
    const matrix = new Int8Array(ROWS * K);
    const scales = new Float32Array(ROWS);
    quantizeRowsTransposed(weights, { start: 0, count: ROWS, k: K, n: ROWS }, matrix, scales, levels);
    const found = matrix.reduce((most, level) => Math.max(most, Math.abs(level)), 0);
    t.equal(found, levels);
    weights.forEach((value, i) => {
      const row = Math.floor(i / K);
      const column = i % K;
      const scale = (codes[row * BLOCKS + Math.floor(column / BLOCK)] ?? 0) * (units[row] ?? 0);
      const inBlock = scale * ((q[row * BLOCKS * BLOCK + column] ?? 0) - 128);
      if (Math.abs(inBlock - value) > 0.51 * scale) t.fail(`block: weight ${i} is ${inBlock}, not ${value}`);
      const inRow = (scales[row] ?? 0) * (matrix[column * ROWS + row] ?? 0);
      if (Math.abs(inRow - value) > 0.51 * (scales[row] ?? 0)) t.fail(`row: weight ${i} is ${inRow}, not ${value}`);
    });
    t.equal(q[BLOCKS * BLOCK - 1], 128, 'padding is zero');
  });

void t.test('moments that are not positive definite are an error', async (t) => {
  const message = /not positive definite/;
  t.throws(() => inverseFactor(Float32Array.from([1, 9, 9, 1]), 2), { name: 'ConvertError', message });
});

void t.test('rows of zeros stay zero', async (t) => {
  const zeros = new Float32Array(ROWS * K);
  t.ok(decode4(quantizeToNearest(zeros, K, BLOCK)).every((value) => value === 0));
  t.ok(decode4(gptq(inverseFactor(identity, K))(zeros, K, BLOCK)).every((value) => value === 0));
  t.ok(quantizeBlocks8(zeros, K, BLOCK, 127).q.every((value) => value === 128));
});
