/** The int8 kernel, which the engine makes of w8a8 at load. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { INT8_FILE, int8Graph } from '../../src/engine/model/int8-graph.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { decodeModel } from '../../src/engine/model/onnx-proto.js';
import { placeOf } from '../../src/engine/model/onnx-weights.js';
import {
  advanceTo,
  decodeRows,
  distance,
  logitsAt,
  logitsBehind,
  makeExecutor,
  openSlot,
  PROMPTS,
  rms,
} from '../engine/helper.js';
import { tinyModel } from '../engine/tiny-model.js';

void t.test('the graph has the bytes of w8a8 in blocks, and a third of its nodes', async (t) => {
  const dir = await tinyModel(t, 'float');
  const file = loadManifest(dir).stages[0]?.graphs.w8a8 ?? '';
  const source = readFileSync(join(dir, file));
  const { graph, weights } = int8Graph(source, ({ location, offset, length }) =>
    readFileSync(join(dir, location)).subarray(offset, offset + length),
  );
  const before = decodeModel(source).graph;
  const after = decodeModel(graph).graph;
  const count = (nodes: readonly { op_type: string }[], op: string) =>
    nodes.filter((node) => node.op_type === op).length;
  t.equal(count(after.node, 'MatMulNBits'), count(before.node, 'MatMulIntegerToFloat'));
  t.equal(count(after.node, 'QuantizeLinear') + count(after.node, 'MatMulIntegerToFloat'), 0);
  t.ok(after.node.length < before.node.length / 2, `${after.node.length} of ${before.node.length} nodes`);

  const bytesOf = (name: string): Buffer => {
    const old = before.initializer.find((tensor) => tensor.name === name);
    const { location = '', offset, length } = old === undefined ? { offset: 0, length: 0 } : placeOf(old);
    return readFileSync(join(dir, location)).subarray(offset, offset + length);
  };
  for (const tensor of after.initializer.filter(({ name }) => name.endsWith('weight_q8.blocks'))) {
    const { location, offset, length } = placeOf(tensor);
    t.equal(location, INT8_FILE);
    const blocks = weights.subarray(offset, offset + length);
    const columns = new Int8Array(bytesOf(tensor.name.replace('.blocks', '')));
    const [n = 0, perRow = 0, block = 0] = tensor.dims;
    const k = columns.length / n;
    let wrong = 0;
    for (let row = 0; row < n; row++)
      for (let at = 0; at < perRow * block; at++)
        if ((blocks[row * perRow * block + at] ?? 0) - 128 !== (at < k ? columns[at * n + row] : 0)) wrong++;
    t.equal(wrong, 0, tensor.name);
  }
});

void t.test('a row of int8 does not depend on its neighbours, and differs from w8a8 by rounding alone', async (t) => {
  const modelDir = await tinyModel(t, 'float');
  const [int8, w8a8] = [await makeExecutor(t, { modelDir, kernels: ['int8'] }), await makeExecutor(t, { modelDir })];
  const deepest = int8.units.exits.length - 1;
  const prompts = PROMPTS.map((prompt) => prompt.slice(0, 200).map((id) => id % 260));
  const prepared = prompts.map((prompt) => {
    const slot = openSlot(int8, prompt);
    advanceTo(int8, slot, deepest, prompt.length - 1);
    return { slot, exit: int8.exit(deepest) };
  });
  const alone = prepared.map(({ slot }) => {
    const logits = logitsAt(int8, slot, deepest);
    slot.truncate(slot.tokens.length - 1);
    return logits;
  });
  decodeRows(int8, prepared);
  for (const [row, logits] of alone.entries()) {
    t.equal(distance(int8.head.fullLogits(row), logits), 0, `row ${row}`);
    const [expected] = logitsBehind([w8a8], prompts[row] ?? [], deepest);
    const noise = rms(logits, expected);
    t.ok(noise > 0 && noise < NOISE_RMS, `rms ${noise}`);
  }
});

/** Each of the two kernels rounds to bytes: .07 measured. */
const NOISE_RMS = 0.3;
