/** Smoothed layers: the factors of their inputs, the same function in other weights, and statistics. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { Architecture } from '../../../src/engine/model/architecture.js';
import { openCalibration, type LayerCalibration, type LayerFactors } from '../../../src/convert/calibration.js';
import { gptq, inverseFactor } from '../../../src/convert/quantize/int4.js';
import { imbalance, smoothedLayer, smoothingFactors } from '../../../src/convert/smoothing.js';
import { LAYER, type Part, type SourceTensor } from '../../../src/convert/source.js';
import { LAYER_SHAPES, random, safetensors, SHAPE, weight } from '../tiny.js';

const { hidden, heads, kvHeads, headDim, ffn } = SHAPE;
const group = heads / kvHeads;
/** Size of an outlier channel relative to the other channels. */
const OUTLIER = 64;
/** The outlier channel of every input; among the channels of the values, it is in the second KV head. */
const CHANNEL = 21;
/** Query heads 2 and 3 read KV head 1. */
const ATTENTION_CHANNELS = [2, 3].map((head) => head * headDim + (CHANNEL % headDim));
const ARCH = { ...SHAPE, norms: 'pre' } as unknown as Architecture;

const shapes = new Map<string, readonly number[]>([...LAYER_SHAPES, [LAYER.vBias, [kvHeads * headDim]]]);
const weights = new Map([...shapes].map(([name, shape], i) => [name, weight(random(i), [...shape]).data]));

function source(name: string): SourceTensor {
  const part = name.slice('p.'.length);
  const shape = shapes.get(part) ?? [];
  const width = shape[1] ?? shape[0] ?? 0;
  const data = weights.get(part) ?? new Float32Array();
  return { name, shape, rows: (start, count) => data.slice(start * width, (start + count) * width) };
}

/** Second moments of inputs with an outlier. @param seen takes the factors of the smoothing */
function calibration(seen: (factors: LayerFactors) => void): LayerCalibration {
  const found: LayerCalibration = {
    int4: () => {
      throw new Error('not asked');
    },
    kvRange: () => null,
    squares: (input, k) =>
      Float32Array.from({ length: k }, (_, i) =>
        (input === 'attn_out' ? ATTENTION_CHANNELS : [CHANNEL]).includes(i) ? OUTLIER ** 2 : 1,
      ),
    smoothed(factors) {
      seen(factors);
      return found;
    },
  };
  return found;
}

function smoothed(arch = ARCH) {
  let factors: LayerFactors | null = null;
  const layer = { source: { tensor: source }, prefix: 'p.', name: 'layers.0', kind: { rotary: 0, window: null } };
  const own = { ...layer, place: 0, arch, calibration: calibration((given) => (factors = given)) };
  const made = smoothedLayer(own);
  const of = (part: Part) => {
    const { shape } = source(`p.${LAYER[part]}`);
    return made.source.tensor(`p.${LAYER[part]}`).rows(0, shape.length === 1 ? 1 : (shape[0] ?? 0));
  };
  return { factors: factors as LayerFactors | null, of };
}

const plain = (part: Part): Float32Array => weights.get(LAYER[part]) ?? new Float32Array();

void t.test('each product of weights along a channel stays as it is', async (t) => {
  const { of } = smoothed();
  type Of = (part: Part) => Float32Array;
  /** Of each value of o: the row of v that feeds its channel. */
  const valueRow = (i: number): number => {
    const channel = i % (heads * headDim);
    return Math.floor(channel / headDim / group) * headDim + (channel % headDim);
  };
  const at = (part: Float32Array, i: number): number => part[i] ?? NaN;
  const product = (part: Part, others: (of: Of, i: number) => number) => (of: Of) =>
    Array.from(of(part), (value, i) => value * others(of, i));
  const cases: Record<string, (of: Of) => number[]> = {
    'norm and q': product('q', (of, i) => at(of('attnNorm'), i % hidden)),
    'norm and k': product('k', (of, i) => at(of('attnNorm'), i % hidden)),
    'norm and gate': product('gate', (of, i) => at(of('mlpNorm'), i % hidden)),
    'norm, v and o': product('o', (of, i) => at(of('v'), valueRow(i) * hidden + CHANNEL) * at(of('attnNorm'), CHANNEL)),
    'the bias of v and o': product('o', (of, i) => at(of('vBias'), valueRow(i))),
    'norm, up and down': product(
      'down',
      (of, i) => at(of('up'), (i % ffn) * hidden + CHANNEL) * at(of('mlpNorm'), CHANNEL),
    ),
  };
  for (const [title, along] of Object.entries(cases)) {
    const expected = along(plain);
    const worst = along(of).reduce((most, value, i) => Math.max(most, Math.abs(value - (expected[i] ?? NaN))), 0);
    t.ok(worst < 1e-6, `${title}: ${worst}`);
  }
  t.notSame(of('attnNorm'), plain('attnNorm'), 'the layer has other weights');
});

void t.test('an input without a norm in front stays', async (t) => {
  t.match(smoothed().factors, { attn_in: Float32Array, attn_out: Float32Array, mlp_in: Float32Array });
  t.match(smoothed({ ...ARCH, norms: 'post' }).factors, { attn_in: null, mlp_in: null, mlp_out: Float32Array });
});

void t.test('the statistics of a smoothed layer are those of its smoothed inputs', async (t) => {
  const k = 4;
  const moments = Float32Array.from({ length: k * k }, (_, i) => (i % (k + 1) === 0 ? 9 + i : 1));
  const range = { shape: [2], data: Float32Array.of(3, 8) };
  const file = path.join(t.testdir(), 'calibration.safetensors');
  const tensors = { 'a.mlp_out.hessian': { shape: [k, k], data: moments }, 'a.k_max': range, 'a.v_max': range };
  writeFileSync(file, safetensors(Object.entries(tensors)));
  const mlp_out = Float32Array.of(1, 2, 0.5, 4);
  const none = { attn_in: null, attn_out: null, mlp_in: null };
  const found = openCalibration(file)
    .layer('a')
    .smoothed({ ...none, mlp_out, values: Float32Array.of(1, 4) });
  t.strictSame(found.squares('mlp_out', k), Float32Array.of(9, 14 / 4, 19 / 0.25, 24 / 16));
  t.strictSame(found.kvRange(2), { k: Float32Array.of(3, 8), v: Float32Array.of(3, 2) });
  const smooth = moments.map((value, i) => value / ((mlp_out[Math.floor(i / k)] ?? 1) * (mlp_out[i % k] ?? 1)));
  const rows = Float32Array.of(0.3, -1, 0.7, 0.2);
  t.strictSame(found.int4('down', k)(rows, k, 32), gptq(inverseFactor(smooth, k))(rows, k, 32));
});

const ones = (k: number): Float32Array => new Float32Array(k).fill(1);

void t.test('imbalance is 1 for equal channels, and grows with an outlier in any unit', async (t) => {
  const outlier = ones(100);
  outlier[7] = 10_000;
  const expected = 10 / Math.sqrt(1.0099);
  for (const [channels, found] of [
    [ones(16), 1],
    [new Float32Array(16), 1],
    [outlier, expected],
    [outlier.map((value) => value * 1000), expected],
  ] as const)
    t.ok(Math.abs(imbalance(channels) - found) < 0.1, `${imbalance(channels)}`);
});

void t.test(
  'an outlier has a large factor, larger for smaller weights; balanced inputs and zeros have none',
  async (t) => {
    const channels = ones(64);
    channels[3] = 4;
    t.equal(smoothingFactors(channels, ones(64)), null, 'balanced');
    channels[3] = 10_000;
    channels[1] = 0;
    const columns = ones(64);
    columns[2] = 0;
    const factors = [...(smoothingFactors(channels, columns) ?? [])];
    const [first = 0, zero, unread, outlier = 0] = factors;
    t.ok(outlier > 5 * first);
    t.strictSame([zero, unread], [1, 1], 'a channel of zeros, and one that no weight reads');
    t.ok(factors.every((factor) => factor > 0 && Number.isFinite(factor)));
    columns[3] = 0.01;
    t.ok((smoothingFactors(channels, columns)?.[3] ?? 0) > outlier);
    const product = factors.reduce((sum, factor) => sum + Math.log(factor), 0);
    t.ok(Math.abs(product) < 1e-3, 'factors are centred on 1');
  },
);
