/** The argmax graph against a loop, for vocabularies with and without blocks; log-sum-exp of the select graph. */
import t from 'tap';
import { argmaxGraph, selectGraph, topKOf } from '../../../src/convert/graphs/select.js';
import type { Graph } from '../../../src/engine/model/onnx-graph.js';
import { cpuDevice } from '../../../src/engine/runtime/device.js';
import { createEnvironment } from '../../../src/engine/runtime/environment.js';
import { Session } from '../../../src/engine/runtime/session.js';
import { hostF32, hostI64, Tensor } from '../../../src/engine/runtime/tensor.js';
import { random } from '../tiny.js';

const ROWS = 7;

type Values = ReturnType<typeof hostF32> | ReturnType<typeof hostI64>;

/** Runs a graph over rows of values. */
function runGraph(graph: Graph, rows: number, inputs: Record<string, Values>, outputs: Record<string, Values>): void {
  const environment = createEnvironment(2);
  const options = { weights: new Map<string, never>(), accumulateInt32: false };
  const session = new Session(environment, cpuDevice(environment), graph.encode(), options);
  const bound = (values: Record<string, Values>) =>
    Object.fromEntries(
      Object.entries(values).map(([name, { address, data }]) => {
        const dims = name === 'ids' ? [rows] : [rows, data.length / rows];
        const type = data instanceof Float32Array ? 'f32' : 'i64';
        return [name, new Tensor(environment, environment.hostMemory, address, dims, type)];
      }),
    );
  const { logits, ...hostInputs } = bound(inputs);
  const binding = session.bind({ hostInputs, inputs: logits ? { logits } : {}, outputs: bound(outputs) });
  binding.run();
  binding.dispose();
  session.dispose();
}

function argmaxOf(vocab: number, logits: Float32Array): number[] {
  const input = hostF32(ROWS * vocab);
  input.data.set(logits);
  const ids = hostI64(ROWS);
  runGraph(argmaxGraph(vocab), ROWS, { logits: input }, { ids });
  return Array.from(ids.data, Number);
}

for (const vocab of [49152, 32000, 96, 264, 33])
  void t.test(`argmax over ${vocab} tokens`, async (t) => {
    const next = random(vocab);
    // Few distinct values: the largest one occurs several times in a row, and the first occurrence counts.
    const logits = Float32Array.from({ length: ROWS * vocab }, () => Math.round(next() * 40) / 4 - 20);
    logits.fill(-Infinity, vocab, 2 * vocab - 1);
    const expected = Array.from({ length: ROWS }, (_, row) => {
      const values = logits.subarray(row * vocab, (row + 1) * vocab);
      return values.indexOf(values.reduce((a, b) => Math.max(a, b)));
    });
    t.strictSame(argmaxOf(vocab, logits), expected);
    t.equal(expected[1], vocab - 1, 'one possible token');
  });

const VOCAB = 4096;

/** lse_t of one row at each temperature. */
function lseOf(row: Float32Array, temperatures: readonly number[]): number[] {
  const rows = temperatures.length;
  const logits = hostF32(rows * VOCAB);
  const inverse = hostF32(rows);
  inverse.data.set(temperatures.map((temperature) => 1 / temperature));
  for (let i = 0; i < rows; i++) logits.data.set(row, i * VOCAB);
  const [top_values, top_ids] = [hostF32(rows * topKOf(VOCAB)), hostI64(rows * topKOf(VOCAB))];
  const [lse, lse_t, target_values] = [hostF32(rows), hostF32(rows), hostF32(rows)];
  const inputs = { logits, inv_temperature: inverse, targets: hostI64(rows) };
  runGraph(selectGraph(VOCAB), rows, inputs, { top_values, top_ids, lse, lse_t, target_values });
  return Array.from(lse_t.data);
}

void t.test('log-sum-exp where most exponentials vanish, and with logits of -Infinity', (t) => {
  const next = random(5);
  const logits = Float32Array.from({ length: VOCAB }, () => next() * 60 - 40);
  logits.fill(-Infinity, 100, 200);
  // At 0.02 the logits span 3,000, at 20 they span 3.
  const temperatures = [0.02, 0.2, 1, 20];
  const found = lseOf(logits, temperatures);
  const most = logits.reduce((a, b) => Math.max(a, b));
  temperatures.forEach((temperature, row) => {
    const sum = logits.reduce((total, logit) => total + Math.exp((logit - most) / temperature), 0);
    const expected = most / temperature + Math.log(sum);
    t.ok(Math.abs((found[row] ?? NaN) - expected) < 1e-5 * Math.abs(expected), `temperature ${temperature}`);
  });
  t.end();
});
