/** Loads the `int8` kernel of a stage from its w8a8 graph. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { Device } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import { Session, type WeightFiles } from '../runtime/session.js';
import { int8Graph, INT8_FILE } from './int8-graph.js';
import type { Placed } from './onnx-weights.js';

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
  const bytesOf = ({ location, offset, length }: Placed): Uint8Array =>
    weights.get(location)?.subarray(offset, offset + length) ?? readPart(join(dir, location), offset, length);
  const made = int8Graph(readFileSync(join(dir, file)), bytesOf);
  return new Session(environment, device, made.graph, {
    weights: new Map([[INT8_FILE, made.weights]]),
    accumulateInt32: false,
  });
}

function readPart(file: string, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const fd = openSync(file, 'r');
  try {
    for (let done = 0; done < length;) {
      const read = readSync(fd, bytes, done, length - done, offset + done);
      if (read === 0) throw new Error(`${file} ends before byte ${offset + length}`);
      done += read;
    }
  } finally {
    closeSync(fd);
  }
  return bytes;
}
