/** The order of channels for rotary widths that the kernels lack; architectures.test.ts has the logits (`phi3-narrow`). */
import t from 'tap';
import type { Architecture } from '../../src/engine/model/architecture.js';
import { NO_CALIBRATION } from '../../src/convert/calibration.js';
import { channelOrder, kernelTables, orderedLayer } from '../../src/convert/rope.js';
import type { SourceTensor } from '../../src/convert/source.js';

const rotary = (width: number) => ({ theta: 10000, width, scaling: null });

void t.test('pairs stand half a kernel width apart, and still channels fill the others', (t) => {
  t.equal(channelOrder(rotary(32), 32), null);
  const order = channelOrder(rotary(20), 48) ?? [];
  for (let pair = 0; pair < 10; pair++) t.strictSame([order[pair], order[pair + 16]], [pair, pair + 10]);
  t.strictSame(order.slice(10, 16), [20, 21, 22, 23, 24, 25]);
  t.strictSame(order.slice(26, 32), [26, 27, 28, 29, 30, 31]);
  t.strictSame(
    [...order].sort((a, b) => a - b),
    Array.from({ length: 48 }, (_, i) => i),
  );
  const { cos, sin } = kernelTables(rotary(20), 3);
  t.equal(cos.length, 3 * 16);
  t.strictSame([...cos.slice(16 + 10, 32)], new Array(6).fill(1));
  t.strictSame([...sin.slice(16 + 10, 32)], new Array(6).fill(0));
  t.equal(cos[16], Math.fround(Math.cos(1)));
  t.end();
});

void t.test('queries, keys and their ranges take the order, whole or in pieces of rows; values do not', (t) => {
  const headDim = 16;
  const arch = { headDim, rotary: [rotary(8)] } as unknown as Architecture;
  const order = channelOrder(rotary(8), headDim) ?? [];
  const tensor = (name: string): SourceTensor => ({
    name,
    shape: [2 * headDim, 3],
    rows: (start, count) => Float32Array.from({ length: count * 3 }, (_, i) => start * 3 + i),
  });
  const range = { k: Float32Array.from({ length: headDim }, (_, i) => i), v: new Float32Array(headDim) };
  const layer = {
    ...{ source: { tensor }, prefix: 'p.', name: 'layers.0', kind: { rotary: 0, window: null } },
    calibration: { ...NO_CALIBRATION.layer(''), kvRange: () => range },
  };
  const { source, calibration } = orderedLayer(layer, arch);
  const expected = [...order, ...order.map((i) => i + headDim)].flatMap((row) => [3 * row, 3 * row + 1, 3 * row + 2]);
  const keys = source.tensor('p.self_attn.k_proj.weight');
  t.strictSame([...keys.rows(0, 32)], expected);
  t.strictSame([...keys.rows(13, 9)], expected.slice(39, 66));
  t.equal(source.tensor('p.self_attn.v_proj.weight').rows(1, 1)[0], 3);
  t.strictSame([...(calibration.kvRange(headDim)?.k ?? [])], order);
  t.equal(orderedLayer({ ...layer, kind: { rotary: null, window: null } }, arch).source, layer.source);
  t.end();
});
