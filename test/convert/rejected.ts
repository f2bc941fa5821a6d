/** Cases of conversions that are rejected. */
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import type { ConvertOptions } from '../../src/convert/options.js';
import { run, writeGguf } from './conversion.js';
import { ggufMetadata, random, tinyWeights, weight, writeFolder, type Weights } from './tiny.js';

export type Case = [
  name: string,
  code: string,
  message: RegExp,
  source: (dir: string) => string,
  options?: Partial<ConvertOptions>,
];

/** Converts the source of each case: each gives one clear error and leaves no output. */
export async function rejects(t: Test, cases: readonly Case[]): Promise<void> {
  for (const [name, code, message, source, options] of cases) {
    await t.test(name, async (t) => {
      const dir = t.testdir();
      const input = source(dir);
      const before = readdirSync(dir);
      await t.rejects(run(dir, input, options), { name: 'ConvertError', code, message });
      t.strictSame(readdirSync(dir), before);
    });
  }
}

/** Weights with one change. */
export function edit(change: (weights: Weights) => void): Weights {
  const weights = tinyWeights(1);
  change(weights);
  return weights;
}

/** A source with one more tensor, or with another shape of one. @param write as a folder or a GGUF file */
export function withTensor(write: (dir: string, weights: Weights) => string, name: string, shape: number[]) {
  return (dir: string): string =>
    write(
      dir,
      edit((weights) => weights.set(name, weight(random(1), shape))),
    );
}

/** A Hugging Face folder of the tiny model. */
export function folder(dir: string, weights = tinyWeights(1), config = {}): string {
  return writeFolder(path.join(dir, 'hf'), weights, { config });
}

/** A GGUF file of the tiny model with additional metadata. */
export function file(dir: string, metadata: object = {}): string {
  return writeGguf(dir, tinyWeights(1), { ...ggufMetadata(), ...metadata });
}

export function write(dir: string, name: string, data: string | Buffer): string {
  const file = path.join(dir, name);
  writeFileSync(file, data);
  return file;
}
