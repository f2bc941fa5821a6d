import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { Graph, MICROSOFT } from '../../src/engine/model/onnx-graph.js';
import { cpuDevice } from '../../src/engine/runtime/device.js';
import { createEnvironment } from '../../src/engine/runtime/environment.js';
import { PROBE, PROBE_GRAPH, saturates } from '../../src/engine/runtime/saturation.js';
import { collectGarbage } from '../../src/util/memory.js';
import { loadOrt } from '../../src/engine/runtime/ort-api.js';

void t.test('PROBE_GRAPH is the product in its comment', async (t) => {
  const { width, columns } = PROBE;
  const graph = new Graph('probe');
  const x = graph.input('x', 'f32', ['rows', width]);
  const unit = graph.constant('unit', 'f32', [], Float32Array.of(1 / 127));
  const zero = graph.constant('zero', 'u8', [], Uint8Array.of(128));
  const largest = graph.constant('largest', 'i8', [], Int8Array.of(127));
  const shape = graph.constant('shape', 'i64', [2], BigInt64Array.of(BigInt(width), BigInt(columns)));
  // ONNX Runtime expands the weight at load, like smoothed weights.
  const weight = graph.node('Expand', [largest, shape], ['weight']);
  const scale = graph.constant('scale', 'f32', [], Float32Array.of(1));
  const bytes = graph.node('QuantizeLinear', [x, unit, zero], ['bytes']);
  graph.node('MatMulIntegerToFloat', [bytes, weight, unit, scale, zero], ['y'], {}, MICROSOFT);
  graph.output('y', 'f32', ['rows', columns]);
  t.equal(Buffer.from(graph.encode()).toString('base64'), PROBE_GRAPH);
});

void t.test('sums are exact with the kernels that a model loads', async (t) => {
  const environment = createEnvironment(2);
  const device = cpuDevice(environment);
  const saturating = saturates(environment, device);
  t.comment(`the default kernels saturate on this processor: ${saturating}`);
  t.notOk(saturates(environment, device, { accumulateInt32: saturating }));
  t.notOk(saturates(environment, device, { accumulateInt32: true }));
});

void t.test('the library stays loaded after garbage collection', async (t) => {
  const ort = loadOrt();
  for (let i = 0; i < 5; i++) {
    await collectGarbage();
    await turn();
  }
  // More threads would themselves pin the library. A call into an unloaded library kills this process.
  createEnvironment(1);
  t.equal(loadOrt(), ort);
  t.match(ort.version, /^\d+\.\d+/);
});
