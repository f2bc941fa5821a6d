/** Conversions of the tests' tiny model. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { convert } from '../../src/convert/convert.js';
import type { ConvertOptions } from '../../src/convert/options.js';
import { gguf, ggufMetadata, type Weights } from './tiny.js';

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
