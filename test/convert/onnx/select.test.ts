/** The argmax graph against a loop, for vocabularies with and without blocks. */
import t from 'tap';
import { argmaxGraph } from '../../../src/convert/onnx/select.js';
import { cpuDevice } from '../../../src/runtime/cpu.js';
import { createEnvironment } from '../../../src/runtime/environment.js';
import { Session } from '../../../src/runtime/session.js';
import { hostF32, hostI64, Tensor } from '../../../src/runtime/tensor.js';
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
