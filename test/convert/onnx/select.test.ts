/** The argmax graph against a loop, for vocabularies with and without blocks; log-sum-exp of the select graph. */
import t from 'tap';
import { argmaxGraph, selectGraph, topKOf } from '../../../src/convert/graphs/select.js';
import { cpuDevice } from '../../../src/engine/runtime/device.js';
import { createEnvironment } from '../../../src/engine/runtime/environment.js';
import { Session } from '../../../src/engine/runtime/session.js';
import { hostF32, hostI64, Tensor } from '../../../src/engine/runtime/tensor.js';
import { random } from '../tiny.js';

const ROWS = 7;

function argmaxOf(vocab: number, logits: Float32Array): number[] {
  const environment = createEnvironment(2);
  const device = cpuDevice(environment);
  const session = new Session(environment, device, argmaxGraph(vocab).encode(), {
    weights: new Map(),
    accumulateInt32: false,
  });
  const input = hostF32(ROWS * vocab);
  input.data.set(logits);
  const output = hostI64(ROWS);
  const binding = session.bind({
    hostInputs: {},
    inputs: { logits: new Tensor(environment, device.memoryInfo, input.address, [ROWS, vocab], 'f32') },
    outputs: { ids: new Tensor(environment, environment.hostMemory, output.address, [ROWS], 'i64') },
  });
  binding.run();
  binding.dispose();
  session.dispose();
  return Array.from(output.data, Number);
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
function lseOf(logits: Float32Array, temperatures: readonly number[]): number[] {
  const environment = createEnvironment(2);
  const device = cpuDevice(environment);
  const session = new Session(environment, device, selectGraph(VOCAB).encode(), {
    weights: new Map(),
    accumulateInt32: false,
  });
  const rows = temperatures.length;
  const host = (address: bigint, width: number, type: 'f32' | 'i64'): Tensor =>
    new Tensor(environment, environment.hostMemory, address, [rows, width], type);
  const input = hostF32(rows * VOCAB);
  temperatures.forEach((_, row) => {
    input.data.set(logits, row * VOCAB);
  });
  const inverse = hostF32(rows);
  inverse.data.set(temperatures.map((temperature) => 1 / temperature));
  const k = topKOf(VOCAB);
  const lse = hostF32(rows);
  const binding = session.bind({
    hostInputs: {
      inv_temperature: host(inverse.address, 1, 'f32'),
      targets: host(hostI64(rows).address, 1, 'i64'),
    },
    inputs: { logits: host(input.address, VOCAB, 'f32') },
    outputs: {
      top_values: host(hostF32(rows * k).address, k, 'f32'),
      top_ids: host(hostI64(rows * k).address, k, 'i64'),
      lse: host(hostF32(rows).address, 1, 'f32'),
      lse_t: host(lse.address, 1, 'f32'),
      target_values: host(hostF32(rows).address, 1, 'f32'),
    },
  });
  binding.run();
  binding.dispose();
  session.dispose();
  return Array.from(lse.data);
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
