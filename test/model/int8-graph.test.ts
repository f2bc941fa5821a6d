/** The int8 kernel, which the engine makes of w8a8 at load. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { INT8_FILE, int8Graph } from '../../src/engine/model/int8-graph.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { decodeModel } from '../../src/engine/model/onnx-proto.js';
import { placeOf } from '../../src/engine/model/onnx-weights.js';
import { advanceTo, decodeRows, distance, logitsAt, makeExecutor, openSlot, PROMPTS, rms } from '../engine/helper.js';
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
  const executor = await makeExecutor(t, { kernels: ['int8'] });
  const reference = await makeExecutor(t);
  const deepest = executor.units.deepest;
  const prepared = (of: typeof executor, prompt: readonly number[]) => {
    const slot = openSlot(of, prompt);
    advanceTo(of, slot, deepest, prompt.length - 1);
    return slot;
  };
  const exit = executor.exit(deepest);
  const slots = PROMPTS.map((prompt) => prepared(executor, prompt));
  const alone = slots.map((slot, row) => {
    const logits = logitsAt(executor, slot, deepest);
    slot.truncate((PROMPTS[row]?.length ?? 0) - 1);
    return logits;
  });
  decodeRows(
    executor,
    slots.map((slot) => ({ slot, exit })),
  );
  for (const [row, logits] of alone.entries()) {
    t.equal(distance(executor.head.fullLogits(row), logits), 0, `row ${row} of ${slots.length}`);
    const w8a8 = logitsAt(reference, prepared(reference, PROMPTS[row] ?? []), deepest);
    const noise = rms(logits, w8a8);
    t.ok(noise > 0 && noise < NOISE_RMS, `rms ${noise}`);
  }
});

/** Two kernels that each round to bytes: the bound of w8a8 against itself in run-prefill.test.ts, and as much for int8. */
const NOISE_RMS = 0.5;
