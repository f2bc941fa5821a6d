/** Cases of conversions that are rejected. */
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import type { ConvertOptions } from '../../src/convert/convert-options.js';
import { run, writeGguf } from './conversion.js';
import { ggufMetadata, random, tinyWeights, weight, writeFolder, type Weights } from './tiny.js';

/** The message of the error, a source, and options that are not those of every test. */
export type Case = readonly [message: RegExp, source: (dir: string) => string, options?: Partial<ConvertOptions>];

type Source = Case[1];

/**
 * Converts the source of each case: each gives one clear error and leaves no output.
 * @param isUsage whether the command line is at fault
 */
export async function rejects(t: Test, cases: readonly Case[], isUsage = false): Promise<void> {
  for (const [message, source, options] of cases) {
    await t.test(message.source, async (t) => {
      const dir = t.testdir();
      const input = source(dir);
      const before = readdirSync(dir);
      await t.rejects(run(dir, input, options), { name: 'ConvertError', isUsage, message });
      t.strictSame(readdirSync(dir), before);
    });
  }
}

/** A source whose weights have one change. @param write as a folder or a GGUF file */
export function edited(write: (dir: string, weights: Weights) => string, change: (weights: Weights) => void): Source {
  return (dir) => {
    const weights = tinyWeights(1);
    change(weights);
    return write(dir, weights);
  };
}

/** A source with one more tensor, or with another shape of one. */
export function withTensor(write: (dir: string, weights: Weights) => string, name: string, shape: number[]): Source {
  return edited(write, (weights) => weights.set(name, weight(random(1), shape)));
}

/** A folder with changes of its config. */
export const withConfig =
  (config: object): Source =>
  (dir) =>
    folder(dir, undefined, config);

/** A GGUF file with more metadata. */
export const withMetadata =
  (metadata: object): Source =>
  (dir) =>
    file(dir, metadata);

/** A folder with another content of a file. */
export const withFile =
  (name: string, data: string | Buffer): Source =>
  (dir) =>
    path.dirname(write(folder(dir), name, data));

/** A file alone. */
export const written =
  (name: string, data: Buffer | string): Source =>
  (dir) =>
    write(dir, name, data);

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
