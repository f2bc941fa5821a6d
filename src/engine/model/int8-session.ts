/** Loads the `int8` kernel of a stage from its w8a8 graph. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Device } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import { Session, type WeightFiles } from '../runtime/session.js';
import { int8Graph, INT8_FILE } from './int8-graph.js';
import type { Placed } from './onnx-weights.js';
import { weightBytes } from './weight-files.js';

/**
 * @param file name of the w8a8 graph in the folder
 * @param weights the folder's compressed weight files in memory; others are read from the folder
 * @throws OrtError if ONNX Runtime rejects the graph
 */
export function int8Session(
  environment: Environment,
  device: Device,
  dir: string,
  file: string,
  weights: WeightFiles,
): Session {
  const bytesOf = (place: Placed): Uint8Array => weightBytes(dir, weights, place);
  const made = int8Graph(readFileSync(join(dir, file)), bytesOf);
  return new Session(environment, device, made.graph, {
    weights: new Map([[INT8_FILE, made.weights]]),
    accumulateInt32: false,
  });
}
