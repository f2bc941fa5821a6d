/** The models of test/golden/architectures: Hugging Face folders, and GGUF files that equal those of Python's `gguf`. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32, gunzipSync } from 'node:zlib';
import { readGguf } from '../../src/convert/formats/gguf/reader.js';
import { random, writeFolder, type Weight, type Weights } from './tiny.js';
import type { LoopShape } from './reference.js';

interface How {
  /** Rows of this number of heads alternate between the rotary halves. */
  readonly heads?: number;
  readonly plus?: number;
  readonly start?: number;
  readonly count?: number;
  readonly values?: readonly number[];
}

/** The highest logits and their tokens. */
export interface TopLogits {
  readonly ids: readonly number[];
  readonly logits: readonly number[];
}

/** A prompt, and golden numbers at some of its positions. */
export interface GoldenPrompt<Numbers> {
  readonly ids: readonly number[];
  readonly positions: readonly (Numbers & { readonly at: number })[];
}

export interface GoldenModel {
  readonly about: string;
  /** Context of the conversion; default: the source's. */
  readonly context?: number;
  /** Added to the weights of norms. */
  readonly norm: number;
  readonly config: Record<string, unknown>;
  readonly shapes: Readonly<Record<string, number[]>>;
  readonly gguf: {
    readonly header: string;
    readonly size: number;
    readonly sha256: string;
    readonly tensors: Readonly<Record<string, readonly [from: string, how?: How]>>;
  } | null;
  readonly prompts: readonly GoldenPrompt<TopLogits>[];
}

const architectureFiles = fileURLToPath(new URL('../../../test/golden/architectures/', import.meta.url));

export const GOLDEN_MODELS: readonly string[] = readdirSync(architectureFiles)
  .filter((name) => name.endsWith('.json'))
  .map((name) => path.basename(name, '.json'));

export function goldenModel(name: string): GoldenModel {
  const model = JSON.parse(readFileSync(path.join(architectureFiles, `${name}.json`), 'utf8')) as GoldenModel;
  const layers = Number(model.config.num_hidden_layers);
  const { gguf, shapes } = model;
  return {
    ...model,
    shapes: ofLayers(shapes, layers),
    gguf: gguf && { ...gguf, tensors: ofLayers(gguf.tensors, layers) },
  };
}

/** Repeats the entries of a layer, which have {} for its index. */
function ofLayers<Value>(table: Readonly<Record<string, Value>>, layers: number): Record<string, Value> {
  const entries = Object.entries(table).flatMap((entry) => {
    const text = JSON.stringify(entry);
    if (!text.includes('{}')) return [entry];
    return Array.from({ length: layers }, (_, i) => JSON.parse(text.replaceAll('{}', String(i))) as [string, Value]);
  });
  return Object.fromEntries(entries);
}

/** All weights by Hugging Face's names: `values` of make.py. */
export function goldenWeights({ shapes, norm }: Pick<GoldenModel, 'shapes' | 'norm'>): Weights {
  return new Map(
    Object.entries(shapes).map(([name, shape]): [string, Weight] => {
      const next = random(crc32(name));
      const offset = name.includes('norm') || name.endsWith('layer_scalar') ? norm : 0;
      const length = shape.reduce((a, b) => a * b);
      return [name, { shape, data: Float32Array.from({ length }, () => Math.round(next() * 32) / 128 + offset) }];
    }),
  );
}

/** Writes the model as a folder; returns its path. @param changes fields of config.json; undefined removes one */
export function writeGoldenFolder(
  dir: string,
  model: Omit<GoldenModel, 'prompts'>,
  changes: Record<string, unknown> = {},
  weights = goldenWeights(model),
): string {
  return writeFolder(dir, weights, { own: model.config, config: changes });
}

/** Writes the model as the GGUF file of the `gguf` package; throws if a byte differs. */
export function writeGoldenGguf(file: string, model: GoldenModel): string {
  const { gguf } = model;
  if (gguf === null) throw new Error('the model has no GGUF file');
  const weights = goldenWeights(model);
  const bytes = Buffer.alloc(gguf.size);
  gunzipSync(Buffer.from(gguf.header, 'base64')).copy(bytes);
  writeFileSync(file, bytes);
  const { file: opened, tensors } = readGguf(file);
  opened.close();
  for (const [name, [from, how = {}]] of Object.entries(gguf.tensors)) {
    const info = tensors.get(name);
    if (!info) throw new Error(`the GGUF file has no tensor ${name}`);
    const data = Float32Array.from(how.values ?? stored(weights.get(from), how));
    Buffer.from(data.buffer).copy(bytes, info.offset);
  }
  if (createHash('sha256').update(bytes).digest('hex') !== gguf.sha256) throw new Error(`${file} differs`);
  writeFileSync(file, bytes);
  return file;
}

function stored(weight: Weight | undefined, { heads, plus = 0, start = 0, count }: How): Float32Array {
  if (!weight) throw new Error('the folder lacks a weight');
  const [rows = 0, width = 1] = weight.shape;
  const part = weight.data.subarray(start * width, (start + (count ?? rows)) * width);
  if (heads === undefined) return part.map((value) => value + plus);
  const half = rows / heads / 2;
  const out = new Float32Array(part.length);
  for (let row = 0; row < rows; row++) {
    const [head, within] = [Math.floor(row / half / 2), row % (2 * half)];
    const to = head * 2 * half + 2 * (within % half) + Math.floor(within / half);
    out.set(part.subarray(row * width, (row + 1) * width), to * width);
  }
  return out;
}

// The looped models of test/golden/loops, whose golden numbers the public modeling file of Ouro computed.

export interface GoldenLoops extends Omit<GoldenModel, 'prompts'> {
  /** By loop: the highest logits, and the gate in front of its sigmoid. */
  readonly prompts: readonly GoldenPrompt<{ readonly loops: readonly (TopLogits & { readonly gate: number })[] }>[];
}

const loopFiles = fileURLToPath(new URL('../../../test/golden/loops/', import.meta.url));

export const LOOP_MODELS = ['ouro-1', 'ouro-2', 'ouro-4', 'ouro-4-tied'] as const;

export function goldenLoops(name: (typeof LOOP_MODELS)[number]): GoldenLoops {
  return JSON.parse(readFileSync(path.join(loopFiles, `${name}.json`), 'utf8')) as GoldenLoops;
}

export function loopShape({ config }: GoldenLoops): LoopShape {
  const heads = Number(config.num_attention_heads);
  return {
    layers: Number(config.num_hidden_layers),
    loops: Number(config.total_ut_steps),
    heads,
    kvHeads: Number(config.num_key_value_heads),
    headDim: Number(config.hidden_size) / heads,
    theta: Number(config.rope_theta),
    eps: Number(config.rms_norm_eps),
    betweenLoops: true,
  };
}
