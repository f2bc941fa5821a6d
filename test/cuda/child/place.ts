/**
 * Loads graphs on `--device cuda`, and prints the device and the error of each graph, or null, as a line of JSON.
 * Usage: place.js GRAPH...
 */
import { createEnvironment } from '../../../src/engine/runtime/environment.js';
import { cudaDevice } from '../../../src/engine/runtime/cuda.js';
import { PROBE_GRAPH } from '../../../src/engine/runtime/saturation.js';
import { Session } from '../../../src/engine/runtime/session.js';

const environment = createEnvironment(1);
const device = cudaDevice(environment);

function errorOf(graph: string | Uint8Array): string | null {
  try {
    new Session(environment, device, graph, { weights: new Map(), accumulateInt32: false }).dispose();
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const graphs = process.argv.slice(2).map((graph) => [graph, errorOf(graph)] as const);
console.log(JSON.stringify({ devices: [device.info()], graphs, bytes: errorOf(Buffer.from(PROBE_GRAPH, 'base64')) }));
