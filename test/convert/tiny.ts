/** Tiny random llamas as GGUF files and as Hugging Face folders, for the converter's tests. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { layerShapes } from '../../bench/shapes.js';
import { toHalf } from '../../src/convert/weight.js';
import { convert } from '../../src/convert/convert.js';
import type { ConvertOptions } from '../../src/convert/convert-options.js';
import { ggufPaths } from '../../src/util/gguf-parts.js';

export const SHAPE = { layers: 3, hidden: 64, heads: 4, kvHeads: 2, headDim: 16, ffn: 96, vocab: 264, context: 32 };
const { hidden, heads, kvHeads, headDim, ffn, vocab } = SHAPE;

export interface Weight {
  shape: number[];
  data: Float32Array;
}
export type Weights = Map<string, Weight>;

/** Random numbers in [-1, 1) from a seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

export const LAYER_SHAPES = layerShapes(SHAPE);

export function weight(next: () => number, shape: number[]): Weight {
  // Multiples of 1/128 are exact in F16 and BF16 as well.
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => Math.round(next() * 32) / 128);
  return { shape, data };
}

/** The weights of a model with a tied head, or with an `lm_head.weight`. */
export function tinyWeights(seed: number, tied = true): Weights {
  const next = random(seed);
  const weights: Weights = new Map([
    ['model.embed_tokens.weight', weight(next, [vocab, hidden])],
    ['model.norm.weight', weight(next, [hidden])],
  ]);
  if (!tied) weights.set('lm_head.weight', weight(next, [vocab, hidden]));
  for (let i = 0; i < SHAPE.layers; i++)
    for (const [name, shape] of LAYER_SHAPES) weights.set(`model.layers.${i}.${name}`, weight(next, shape));
  return weights;
}

export const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  num_hidden_layers: SHAPE.layers,
  hidden_size: hidden,
  num_attention_heads: heads,
  num_key_value_heads: kvHeads,
  intermediate_size: ffn,
  vocab_size: vocab,
  max_position_embeddings: SHAPE.context,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
  bos_token_id: 0,
  eos_token_id: 1,
};

type Dtype = 'F32' | 'F16' | 'BF16';

function encode(data: Float32Array, dtype: Dtype): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (dtype === 'F16') return new Uint8Array(toHalf(data).buffer);
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
  return new Uint8Array(Uint16Array.from(bits, (value) => value >>> 16).buffer);
}

/** Serializes one safetensors file. */
export function safetensors(weights: Iterable<[string, Weight]>, dtype: Dtype = 'F32'): Buffer {
  const header: Record<string, unknown> = {};
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const [name, { shape, data }] of weights) {
    const bytes = encode(data, dtype);
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
    parts.push(bytes);
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...parts]);
}

/** A tokenizer.json with all required parts, and the given `parts`. */
export function tokenizerJson(parts: object): object {
  return {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    model: { type: 'BPE', vocab: {}, merges: [] },
    ...parts,
  };
}

interface FolderOptions {
  dtype?: Dtype;
  /** Number of safetensors files. */
  shards?: number;
  /** The model's own config; default: that of the tiny Llama. */
  own?: object;
  /** Other fields of it; undefined removes one. */
  config?: object;
}

/** Writes a Hugging Face folder; returns its path. */
export function writeFolder(
  dir: string,
  weights: Weights,
  { dtype = 'F32', shards = 1, own = CONFIG, config = {} }: FolderOptions = {},
): string {
  mkdirSync(dir, { recursive: true });
  writeFileSync(path.join(dir, 'config.json'), JSON.stringify({ ...own, ...config }));
  writeFileSync(path.join(dir, 'tokenizer.json'), JSON.stringify(tokenizerJson({})));
  const entries = [...weights];
  const file = (i: number): string => (shards === 1 ? 'model.safetensors' : `model-${i + 1}-of-${shards}.safetensors`);
  for (let i = 0; i < shards; i++)
    writeFileSync(
      path.join(dir, file(i)),
      safetensors(
        entries.filter((_, e) => e % shards === i),
        dtype,
      ),
    );
  if (shards > 1) {
    const weight_map = Object.fromEntries(entries.map(([name], e) => [name, file(e % shards)]));
    writeFileSync(path.join(dir, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
  }
  return dir;
}

const GGUF_NAMES: Record<string, string> = {
  'input_layernorm.weight': 'attn_norm.weight',
  'self_attn.q_proj.weight': 'attn_q.weight',
  'self_attn.k_proj.weight': 'attn_k.weight',
  'self_attn.v_proj.weight': 'attn_v.weight',
  'self_attn.o_proj.weight': 'attn_output.weight',
  'post_attention_layernorm.weight': 'ffn_norm.weight',
  'mlp.gate_proj.weight': 'ffn_gate.weight',
  'mlp.up_proj.weight': 'ffn_up.weight',
  'mlp.down_proj.weight': 'ffn_down.weight',
  'input_layernorm_2.weight': 'post_attention_norm.weight',
  'post_attention_layernorm_2.weight': 'post_ffw_norm.weight',
};

function ggufName(name: string): string {
  const match = /^model\.layers\.(\d+)\.(.*)$/.exec(name);
  if (match) return `blk.${match[1]}.${GGUF_NAMES[match[2] ?? '']}`;
  return (
    {
      'model.embed_tokens.weight': 'token_embd.weight',
      'model.norm.weight': 'output_norm.weight',
      'lm_head.weight': 'output.weight',
    }[name] ?? name
  );
}

/** Permutes rows as llama.cpp's conversion does: reshape to (heads, 2, D/2, K), swap the middle axes. */
function permute({ shape, data }: Weight, count: number): Float32Array {
  const width = shape[1] ?? 1;
  const out = new Float32Array(data.length);
  for (let h = 0; h < count; h++)
    for (let half = 0; half < 2; half++)
      for (let i = 0; i < headDim / 2; i++) {
        const from = (h * headDim + half * (headDim / 2) + i) * width;
        out.set(data.subarray(from, from + width), (h * headDim + 2 * i + half) * width);
      }
  return out;
}

export type GgufMetadata = Record<string, string | number | boolean | string[] | number[]>;

/** 264 tokens: two control tokens, the 256 byte-level characters, and six merges. */
export function tinyVocabulary(): { tokens: string[]; merges: string[] } {
  const bytes = Array.from({ length: 256 }, (_, i) => i);
  const printable = bytes.filter((b) => (b > 32 && b < 127) || (b > 160 && b !== 173));
  const rest = bytes.filter((b) => !printable.includes(b));
  const characters = [
    ...printable.map((b) => String.fromCharCode(b)),
    ...rest.map((_, i) => String.fromCharCode(256 + i)),
  ];
  const merges = ['h e', 'l l', 'he ll', 'hell o', 'Ġ w', 'o r'];
  return { tokens: ['<s>', '</s>', ...characters, ...merges.map((merge) => merge.replace(' ', ''))], merges };
}

/** Metadata of the tiny model. @param architecture a name of llama.cpp */
export function ggufMetadata(architecture = 'llama'): GgufMetadata {
  const { tokens, merges } = tinyVocabulary();
  return {
    'general.architecture': architecture,
    'general.name': 'tiny',
    'general.license': 'apache-2.0',
    [`${architecture}.block_count`]: SHAPE.layers,
    [`${architecture}.context_length`]: SHAPE.context,
    [`${architecture}.embedding_length`]: hidden,
    [`${architecture}.feed_forward_length`]: ffn,
    [`${architecture}.attention.head_count`]: heads,
    [`${architecture}.attention.head_count_kv`]: kvHeads,
    [`${architecture}.rope.freq_base`]: 10000,
    [`${architecture}.attention.layer_norm_rms_epsilon`]: 1e-5,
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'smollm',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.merges': merges,
    'tokenizer.ggml.token_type': tokens.map((_, i) => (i < 2 ? 3 : 1)),
    'tokenizer.ggml.bos_token_id': 0,
    'tokenizer.ggml.eos_token_id': 1,
    'tokenizer.chat_template': '{{ messages[0].content }}',
  };
}

export const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);
export const u64 = (value: number): Buffer => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

/** A value of metadata, and its type. */
function typed(item: GgufMetadata[string]): [type: number, bytes: Buffer] {
  if (Array.isArray(item)) {
    const elements = item.map(typed);
    return [9, Buffer.concat([u32(elements[0]?.[0] ?? 12), u64(item.length), ...elements.map(([, bytes]) => bytes)])];
  }
  if (typeof item === 'string') return [8, text(item)];
  return typeof item === 'boolean' ? [7, Buffer.from([item ? 1 : 0])] : [12, Buffer.from(Float64Array.of(item).buffer)];
}

/** Fills the last 32 bytes. */
const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32)]);

/** Serializes a GGUF file with F32 or F16 weights (norms stay F32), or with `types` by GGUF tensor name. */
export function gguf(
  weights: Weights,
  metadata: GgufMetadata,
  half = false,
  types: Record<string, number> = {},
): Buffer {
  const header = [u32(0x46554747), u32(3), u64(weights.size), u64(Object.keys(metadata).length)];
  for (const [key, item] of Object.entries(metadata)) {
    const [type, bytes] = typed(item);
    header.push(text(key), u32(type), bytes);
  }
  const blobs: Buffer[] = [];
  let offset = 0;
  for (const [stored, entry] of weights) {
    const name = ggufName(stored);
    const isHalf = half && entry.shape.length === 2;
    const rotated = stored.includes('q_proj') ? heads : stored.includes('k_proj') ? kvHeads : 0;
    const values = rotated > 0 ? permute(entry, rotated) : entry.data;
    const blob = padded(Buffer.from(encode(values, isHalf ? 'F16' : 'F32')));
    const sizes = entry.shape.toReversed().map(u64);
    header.push(text(name), u32(sizes.length), ...sizes, u32(types[name] ?? (isHalf ? 1 : 0)), u64(offset));
    blobs.push(blob);
    offset += blob.length;
  }
  return Buffer.concat([padded(Buffer.concat(header)), ...blobs]);
}

// Conversions of the tests' tiny model.

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
