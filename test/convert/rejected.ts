/** Sources and options of conversions that are rejected. */
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import type { ConvertOptions } from '../../src/convert/convert-options.js';
import {
  writeGguf,
  ggufMetadata,
  random,
  tinyWeights,
  weight,
  writeFolder,
  type GgufMetadata,
  type Weights,
} from './tiny.js';
import { goldenWeights, writeGoldenFolder, type GoldenModel } from './golden-model.js';

/** Writes a source into an empty folder. @returns its path */
export type Source = (dir: string) => string;

type Edit = (weights: Weights) => unknown;

/** Faulty sources or options by the end of their error. Three points in it stand for any text. */
type Faults<T> = Readonly<Record<string, T | readonly T[]>>;

/** Converts each source: it gives the error, and leaves no output. */
export function rejects(t: Test, faults: Faults<Source>): Promise<void> {
  return each(t, faults, (source) => ({ source, options: {}, isUsage: false }));
}

/** Converts a source with each set of options: the command line is at fault. */
export function rejectsOptions(t: Test, source: Source, faults: Faults<Partial<ConvertOptions>>): Promise<void> {
  return each(t, faults, (options) => ({ source, options, isUsage: true }));
}

interface Conversion {
  readonly source: Source;
  readonly options: Partial<ConvertOptions>;
  readonly isUsage: boolean;
}

async function each<T>(t: Test, faults: Faults<T>, conversion: (fault: T) => Conversion): Promise<void> {
  for (const [text, some] of Object.entries(faults))
    for (const [i, fault] of (Array.isArray(some) ? (some as readonly T[]) : [some as T]).entries())
      await t.test(`${text} ${i}`, async (t) => {
        const { source, options, isUsage } = conversion(fault);
        const dir = t.testdir();
        const given = { source: source(dir), out: path.join(dir, 'out'), name: 'tiny', ...options };
        const before = readdirSync(dir);
        const converted = convert({ kernels: ['fp32'], compress: false, force: false, ...given });
        const message = new RegExp(`${text.replace(/[$()*+?[\]^{|}]/g, '\\$&').replaceAll('...', '.*')}$`);
        await t.rejects(converted, { name: 'ConvertError', isUsage, message });
        t.strictSame(readdirSync(dir), before);
      });
}

/** Other fields of a config or of metadata, where undefined removes one, or other weights. */
export type Change = Readonly<Record<string, unknown>> | Edit;

/** @param own weights of the model */
export function changed(own: Weights, change: Change): { readonly fields: Record<string, unknown>; weights: Weights } {
  const weights = new Map(own);
  if (typeof change !== 'function') return { fields: change, weights };
  change(weights);
  return { fields: {}, weights };
}

/** The tiny model as a Hugging Face folder. */
export const folder =
  (change: Change = {}): Source =>
  (dir) => {
    const { fields, weights } = changed(tinyWeights(1), change);
    return writeFolder(path.join(dir, 'hf'), weights, { config: fields });
  };

/** The tiny model as a GGUF file. */
export const file =
  (change: Change = {}): Source =>
  (dir) => {
    const { fields, weights } = changed(tinyWeights(1), change);
    const all = Object.entries({ ...ggufMetadata(), ...fields }).filter(([, value]) => value !== undefined);
    return writeGguf(dir, weights, Object.fromEntries(all) as GgufMetadata);
  };

/** A model of Hugging Face's classes. */
export const golden =
  (model: Omit<GoldenModel, 'prompts'>, change: Change = {}): Source =>
  (dir) => {
    const { fields, weights } = changed(goldenWeights(model), change);
    return writeGoldenFolder(path.join(dir, 'hf'), model, fields, weights);
  };

export const without =
  (name: string): Edit =>
  (weights) =>
    weights.delete(name);

/** One more tensor, or another shape of one. */
export const having =
  (name: string, shape: number[]): Edit =>
  (weights) =>
    weights.set(name, weight(random(1), shape));

/** A folder with another content of a file. */
export const withFile =
  (name: string, data: string | Buffer): Source =>
  (dir) =>
    path.dirname(write(folder()(dir), name, data));

/** A file alone. */
export const written =
  (name: string, data: Buffer | string): Source =>
  (dir) =>
    write(dir, name, data);

function write(dir: string, name: string, data: string | Buffer): string {
  const file = path.join(dir, name);
  writeFileSync(file, data);
  return file;
}
