/**
 * The golden architectures at the widths of real models' multiples: the provider chooses its kernels by shape. Weights are
 * those of the wider shapes, and no number of theirs is tested.
 */
import { crc32 } from 'node:zlib';
import { GOLDEN_MODELS, goldenModel, writeGoldenFolder } from '../convert/golden-model.js';
import { random, type Weight } from '../convert/tiny.js';

/** Widths of a golden model times this are multiples of 64: of its MLP, which granite4 halves, and of its heads. */
const factorOf = (name: string): number => (name === 'granite4' ? 8 : 4);
const WIDTHS = ['hidden_size', 'intermediate_size', 'shared_intermediate_size', 'head_dim', 'vocab_size'];
const CONTEXT = 1024;

/** Architectures that GPUs serve. */
export const WIDE_MODELS = GOLDEN_MODELS.filter((name) => name !== 'ministral3');

/** Writes the folder of a wide model; returns its path. */
export function writeWideFolder(dir: string, name: string): string {
  const model = goldenModel(name);
  const { config } = model;
  const factor = factorOf(name);
  const changes: Record<string, unknown> = { max_position_embeddings: CONTEXT };
  for (const width of WIDTHS) if (typeof config[width] === 'number') changes[width] = config[width] * factor;
  const rope = (config.rope_parameters ?? {}) as Record<string, unknown>;
  const longer = Object.entries(rope).map(([key, value]) => [
    key,
    Array.isArray(value) ? value.flatMap((each: unknown) => new Array<unknown>(factor).fill(each)) : value,
  ]);
  changes.rope_parameters = Object.fromEntries(longer);
  const weights = Object.entries(model.shapes).map(([tensor, shape]): [string, Weight] => {
    const wide = shape.map((width) => width * factor);
    const next = random(crc32(tensor));
    const length = wide.reduce((a, b) => a * b);
    return [tensor, { shape: wide, data: Float32Array.from({ length }, () => next() / 8) }];
  });
  return writeGoldenFolder(dir, model, changes, new Map(weights));
}
