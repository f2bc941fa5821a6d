/** Models of a realistic size with random weights, for bench:engine: speed does not depend on the weights' values. */
import { join } from 'node:path';
import { convert } from '../../src/convert/convert.js';
import type { KernelName } from '../../src/model/manifest.js';
import { byteOfCharacter } from '../../src/text/token-bytes.js';
import { type Format, type RandomTensor, type Value, writeRandomGguf } from './gguf-writer.js';

interface Shape {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly ffn: number;
  readonly vocab: number;
  readonly context: number;
  readonly theta: number;
  /** The shallow exit, at half the depth. */
  readonly exit: number;
}

/** Each has a tied head (unless its exits agree), and heads of hidden / heads channels. */
export const SHAPES: Readonly<Record<string, Shape>> = {
  // Llama-3.2-1B, with a shorter context.
  'llama-1b': {
    layers: 16,
    hidden: 2048,
    heads: 32,
    kvHeads: 8,
    ffn: 8192,
    vocab: 128_256,
    context: 8192,
    theta: 500_000,
    exit: 8,
  },
  // SmolLM2-135M, to test the bench.
  'smollm-135m': {
    layers: 30,
    hidden: 576,
    heads: 9,
    kvHeads: 3,
    ffn: 1536,
    vocab: 49_152,
    context: 8192,
    theta: 100_000,
    exit: 15,
  },
};

/** @throws Error that names the allowed shapes */
export function shapeOf(name: string): Shape {
  const shape = SHAPES[name];
  if (shape) return shape;
  throw new Error(`--shape must be one of ${Object.keys(SHAPES).join(', ')}, got "${name}"`);
}

export interface Written {
  readonly folder: string;
  /** GGUF files for llama.cpp, with as many bits per weight as its usual formats. */
  readonly gguf: readonly string[];
}

/** Deviation of a weight of uniform bytes, in scales of its block; weights usually have one of .02. */
const DEVIATION: Readonly<Record<Format, number>> = { F32: 1, Q8_0: 74, Q4_0: 4.6, Q6_K: 74 * 18.5 };

/** Factor of the layers' inputs where exits agree: each layer then adds next to nothing. */
const NEARLY_IDENTITY = 1 / 1024;

/**
 * Writes a shape as GGUF files, and converts the first one.
 * @param agrees whether all exits agree by construction. Layers are nearly the identity, and the head's row of a token is
 * the embedding of the token before it. So the greedy text counts up and never repeats itself. A quarter of the depth is
 * a further exit.
 */
export async function writeShape(
  name: string,
  dir: string,
  kernels: readonly KernelName[],
  agrees = false,
): Promise<Written> {
  const shape = shapeOf(name);
  const gguf = (['Q8_0', 'Q4_0'] as const).map((format) => {
    const file = join(dir, `${name}-${format}.gguf`);
    writeRandomGguf(file, metadataOf(name, shape), tensorsOf(shape, format, agrees));
    return file;
  });
  const [source = ''] = gguf;
  const folder = join(dir, name);
  const exits = [...(agrees ? [shape.exit >> 1] : []), shape.exit, shape.layers];
  await convert({ source, out: folder, exits, kernels, compress: false, force: false });
  return { folder, gguf };
}

function tensorsOf({ layers, hidden, heads, kvHeads, ffn, vocab }: Shape, format: Format, agrees: boolean) {
  const matrix = (tensor: string, rows: number, columns: number, factor = 1, as: Format = format): RandomTensor => {
    return { name: `${tensor}.weight`, shape: [rows, columns], format: as, scale: (0.02 / DEVIATION[as]) * factor };
  };
  // llama-quantize stores the head of a Q4_0 file in more bits, and so a tied embedding.
  const head: Format = format === 'Q4_0' ? (hidden % 256 === 0 ? 'Q6_K' : 'Q8_0') : format;
  // Larger logits make the exits sure of their tokens.
  const sureness = agrees ? 8 : 1;
  const norm = (tensor: string, factor = 1): RandomTensor => {
    return { name: `${tensor}.weight`, shape: [hidden], format: 'F32', scale: factor };
  };
  const inputs = agrees ? NEARLY_IDENTITY : 1;
  const kv = (kvHeads * hidden) / heads;
  return [
    matrix('token_embd', vocab, hidden, sureness, agrees ? format : head),
    norm('output_norm'),
    ...(agrees ? [{ ...matrix('output', vocab, hidden, sureness, head), rowsBefore: -1 }] : []),
    ...Array.from({ length: layers }, (_, layer) => {
      const at = (part: string): string => `blk.${layer}.${part}`;
      return [
        norm(at('attn_norm'), inputs),
        matrix(at('attn_q'), hidden, hidden),
        matrix(at('attn_k'), kv, hidden),
        matrix(at('attn_v'), kv, hidden),
        matrix(at('attn_output'), hidden, hidden),
        norm(at('ffn_norm'), inputs),
        matrix(at('ffn_gate'), ffn, hidden),
        matrix(at('ffn_up'), ffn, hidden),
        matrix(at('ffn_down'), hidden, ffn),
      ];
    }).flat(),
  ];
}

function metadataOf(name: string, shape: Shape): Record<string, Value> {
  const { layers, hidden, heads, kvHeads, ffn, vocab, context, theta } = shape;
  // Bytes, words that no text has, and a token at the end that ends an answer.
  const bytes = [...byteOfCharacter().keys()];
  const words = Array.from({ length: vocab - bytes.length - 1 }, (_, word) => `word${word}`);
  return {
    'general.architecture': { string: 'llama' },
    'general.name': { string: name },
    'llama.block_count': { u32: layers },
    'llama.context_length': { u32: context },
    'llama.embedding_length': { u32: hidden },
    'llama.feed_forward_length': { u32: ffn },
    'llama.attention.head_count': { u32: heads },
    'llama.attention.head_count_kv': { u32: kvHeads },
    'llama.attention.layer_norm_rms_epsilon': { f32: 1e-5 },
    'llama.rope.dimension_count': { u32: hidden / heads },
    'llama.rope.freq_base': { f32: theta },
    'llama.vocab_size': { u32: vocab },
    'tokenizer.ggml.model': { string: 'gpt2' },
    'tokenizer.ggml.pre': { string: 'gpt-2' },
    'tokenizer.ggml.tokens': { strings: [...bytes, ...words, '<|endoftext|>'] },
    'tokenizer.ggml.merges': { strings: [] },
    'tokenizer.ggml.eos_token_id': { u32: vocab - 1 },
    'tokenizer.ggml.bos_token_id': { u32: vocab - 1 },
    'tokenizer.ggml.add_bos_token': { bool: false },
  };
}
