/** Smoothed layers: the same function in other weights, and the statistics of its inputs. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { Architecture } from '../../../src/engine/model/architecture.js';
import { openCalibration, type LayerCalibration, type LayerFactors } from '../../../src/convert/calibration.js';
import { gptq, inverseFactor } from '../../../src/convert/quantize/int4.js';
import { smoothedLayer } from '../../../src/convert/smoothing.js';
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
  const made = smoothedLayer({ ...layer, calibration: calibration((given) => (factors = given)) }, arch);
  const of = (part: Part) => {
    const { shape } = source(`p.${LAYER[part]}`);
    return made.source.tensor(`p.${LAYER[part]}`).rows(0, shape.length === 1 ? 1 : (shape[0] ?? 0));
  };
  return { factors: factors as LayerFactors | null, of };
}

const plain = (part: Part): Float32Array => weights.get(LAYER[part]) ?? new Float32Array();

void t.test('each product of weights along a channel stays as it is', async (t) => {
  const { of } = smoothed();
  const cases: [title: string, along: (part: (part: Part) => Float32Array) => number[]][] = [
    ...(['q', 'k', 'gate'] as const).map((reader): (typeof cases)[number] => [
      `norm and ${reader}`,
      (part) =>
        Array.from(
          part(reader),
          (value, i) => value * (part(reader === 'gate' ? 'mlpNorm' : 'attnNorm')[i % hidden] ?? NaN),
        ),
    ]),
    [
      'norm, v and o',
      (part) =>
        Array.from(part('o'), (value, i) => {
          const channel = i % (heads * headDim);
          const row = Math.floor(channel / headDim / group) * headDim + (channel % headDim);
          return value * (part('v')[row * hidden + CHANNEL] ?? NaN) * (part('attnNorm')[CHANNEL] ?? NaN);
        }),
    ],
    [
      'the bias of v and o',
      (part) =>
        Array.from(part('o'), (value, i) => {
          const channel = i % (heads * headDim);
          return value * (part('vBias')[Math.floor(channel / headDim / group) * headDim + (channel % headDim)] ?? NaN);
        }),
    ],
    [
      'norm, up and down',
      (part) =>
        Array.from(part('down'), (value, i) => {
          const row = i % ffn;
          return value * (part('up')[row * hidden + CHANNEL] ?? NaN) * (part('mlpNorm')[CHANNEL] ?? NaN);
        }),
    ],
  ];
  for (const [title, along] of cases) {
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
