/** Reports the content of a model folder after checking every file against the manifest. */
import path from 'node:path';
import { graphFiles } from '../engine/model/graphs.js';
import type { Manifest } from '../engine/model/manifest.js';
import { loadManifest, verifyFiles } from '../engine/model/manifest-io.js';
import { checkWeightFiles, externalTensors } from '../engine/model/onnx-weights.js';

export interface GraphReport {
  file: string;
  tensors: number;
  /** Bytes of the weights that the graph reads, uncompressed; a shared tensor counts in each of its graphs. */
  bytes: number;
}

export interface Report {
  manifest: Manifest;
  graphs: GraphReport[];
  /** Bytes of all listed files. */
  diskBytes: number;
  /** Bytes of all weights, uncompressed, shared tensors once. */
  weightBytes: number;
  /** Distinct tensors in the weight files. */
  tensors: number;
}

/** Verifies sizes and checksums; throws an Error naming the first file that differs. */
export async function inspect(dir: string): Promise<Report> {
  const manifest = loadManifest(dir);
  const files = [...new Set(graphFiles(manifest, manifest.kernels))];
  checkWeightFiles(dir, files);
  await verifyFiles(dir, manifest);
  const unique = new Map<string, number>();
  // The loops of a looped model name one graph.
  const graphs = files.map((file): GraphReport => {
    const tensors = externalTensors(path.join(dir, file));
    for (const { name, length } of tensors) unique.set(name, length);
    return { file, tensors: tensors.length, bytes: sum(tensors.map(({ length }) => length)) };
  });
  return {
    manifest,
    graphs,
    diskBytes: sum(manifest.files.map(({ size }) => size)),
    weightBytes: sum([...unique.values()]),
    tensors: unique.size,
  };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
