/** Conversions of the tests' tiny model. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { convert } from '../../src/convert/convert.js';
import type { ConvertOptions } from '../../src/convert/convert-options.js';
import { ggufPaths } from '../../src/util/gguf-parts.js';
import { gguf, ggufMetadata, safetensors, type Weights } from './tiny.js';

export const OPTIONS: Omit<ConvertOptions, 'source' | 'out'> = {
  exits: [1, 3],
  kernels: ['fp32'],
  compress: false,
  force: false,
};

export function run(dir: string, source: string, options: Partial<ConvertOptions> = {}) {
  return convert({ ...OPTIONS, source, out: path.join(dir, 'out'), name: 'tiny', ...options });
}

export function writeGguf(dir: string, weights: Weights, metadata = ggufMetadata(), half = false): string {
  const file = path.join(dir, 'tiny.gguf');
  writeFileSync(file, gguf(weights, metadata, half));
  return file;
}

/** Writes a model in parts, as llama.cpp does: the first one alone has its metadata. @returns the paths */
export function writeGgufParts(dir: string, weights: Weights, count: number): string[] {
  const entries = [...weights];
  return ggufPaths(path.join(dir, `tiny-00001-of-0000${count}.gguf`)).map((file, i, { length }) => {
    const share = entries.slice((i * entries.length) / length, ((i + 1) * entries.length) / length);
    const split = { 'split.no': i, 'split.count': count, 'split.tensors.count': entries.length };
    writeFileSync(file, gguf(new Map(share), { ...(i === 0 && ggufMetadata()), ...split }));
    return file;
  });
}

/** Writes a calibration in which each channel of keys and values stays below `most`. @returns the path */
export function writeRanges(file: string, layers: number, channels: number, most: number): string {
  const range = { shape: [channels], data: new Float32Array(channels).fill(most) };
  const names = Array.from({ length: layers }, (_, i) => [`layers.${i}.k_max`, `layers.${i}.v_max`]).flat();
  writeFileSync(file, safetensors(names.map((name) => [name, range])));
  return file;
}
