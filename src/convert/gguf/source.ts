/**
 * A GGUF file as a model source. Metadata gives the architecture, and tensor names are mapped to those of Hugging Face.
 * llama.cpp stores the rows of q and k in interleaved rotary order.
 */
import path from 'node:path';
import type { Architecture } from '../../model/manifest.js';
import { ConvertError } from '../errors.js';
import { assertFinite } from '../file.js';
import {
  EMBEDDING,
  FINAL_NORM,
  HEAD,
  LAYER,
  trunkLayer,
  type ModelSource,
  type SourceSampling,
  type SourceTensor,
} from '../source.js';
import { GGML_FORMATS } from './dequantize.js';
import { readGguf, type Gguf, type GgufTensorInfo, type GgufValue } from './reader.js';
import { ropeScalingFromFactors } from './rope.js';
import { ggufTokenizer } from './tokenizer.js';

const LAYER_NAMES: [string, string][] = [
  ['attn_norm.weight', LAYER.attnNorm],
  ['attn_q.weight', LAYER.q],
  ['attn_k.weight', LAYER.k],
  ['attn_v.weight', LAYER.v],
  ['attn_output.weight', LAYER.o],
  ['attn_q.bias', LAYER.qBias],
  ['attn_k.bias', LAYER.kBias],
  ['attn_v.bias', LAYER.vBias],
  ['attn_output.bias', LAYER.oBias],
  ['ffn_norm.weight', LAYER.mlpNorm],
  ['ffn_gate.weight', LAYER.gate],
  ['ffn_up.weight', LAYER.up],
  ['ffn_down.weight', LAYER.down],
];

/** Keys below `general.sampling.`, as llama.cpp reads them. */
const SAMPLING_KEYS = [
  ['temp', 'temperature'],
  ['top_p', 'topP'],
  ['top_k', 'topK'],
  ['min_p', 'minP'],
  ['penalty_repeat', 'repetitionPenalty'],
] as const;

/** Rotary frequencies. readArchitecture reads rope_freqs; the tensors of older files follow from the architecture. */
const FREQUENCIES = /^(rope_freqs\.weight|blk\.\d+\.attn_rot_embd(\.weight)?)$/;

/** Opens a GGUF file. Throws ConvertError unless it holds a complete llama model. */
export function openGguf(file: string): ModelSource {
  const gguf = readGguf(file);
  try {
    return source(gguf);
  } catch (error) {
    gguf.file.close();
    throw error;
  }
}

function source(gguf: Gguf): ModelSource {
  const { metadata, file } = gguf;
  const family = metadata.get('general.architecture');
  if (family !== 'llama')
    throw new ConvertError('unsupported_architecture', `${file.path}: architecture must be llama, got ${show(family)}`);
  const architecture = readArchitecture(gguf);
  const table = new Map<string, { info: GgufTensorInfo; permutedHeads: number }>();
  const rest = new Set([...gguf.tensors.keys()].filter((name) => !FREQUENCIES.test(name)));
  const map = (ggufName: string, name: string, permutedHeads = 0): void => {
    const info = gguf.tensors.get(ggufName);
    if (info) table.set(name, { info, permutedHeads });
    rest.delete(ggufName);
  };
  map('token_embd.weight', EMBEDDING);
  map('output_norm.weight', FINAL_NORM);
  map('output.weight', HEAD);
  const heads = new Map<string, number>([
    [LAYER.q, architecture.heads],
    [LAYER.qBias, architecture.heads],
    [LAYER.k, architecture.kvHeads],
    [LAYER.kBias, architecture.kvHeads],
  ]);
  // A damaged file may claim billions of layers; checkTensors reports layers without tensors.
  for (let i = 0; i < Math.min(architecture.layers, gguf.tensors.size); i++)
    for (const [ggufName, name] of LAYER_NAMES) map(`blk.${i}.${ggufName}`, trunkLayer(i) + name, heads.get(name));

  const exits = metadata.get('sorted.exits');
  const text = (key: string): string | null => {
    const value = metadata.get(key);
    return typeof value === 'string' && value !== '' ? value : null;
  };
  return {
    architecture,
    tokenizer: ggufTokenizer(metadata, file.path),
    name: text('general.name') ?? path.basename(file.path, '.gguf'),
    licence: text('general.license') ?? 'unknown',
    origin: `${text('general.name') ?? 'unnamed'} (${path.basename(file.path)})`,
    sampling: readSampling(gguf),
    exits: Array.isArray(exits) ? exits.map(Number) : null,
    has: (name) => table.has(name),
    names: [...table.keys(), ...rest],
    tensor(name) {
      const entry = table.get(name);
      if (!entry) throw new ConvertError('missing_tensor', `${file.path} has no tensor for ${name}`);
      return tensorOf(gguf, name, entry.info, entry.permutedHeads, architecture.headDim);
    },
    close: () => {
      file.close();
    },
  };
}

function readSampling({ metadata, file }: Gguf): SourceSampling[] {
  return SAMPLING_KEYS.flatMap(([key, field]) => {
    const name = `general.sampling.${key}`;
    const value = metadata.get(name);
    if (value === undefined) return [];
    // 32-bit floats: 0.9 is stored as 0.8999999762.
    const rounded = typeof value === 'number' ? Number(value.toPrecision(7)) : value;
    return [{ field, origin: `${file.path}: ${name}`, value: rounded }];
  });
}

function tensorOf(
  gguf: Gguf,
  name: string,
  info: GgufTensorInfo,
  permutedHeads: number,
  headDim: number,
): SourceTensor {
  const { file } = gguf;
  const format = GGML_FORMATS.get(info.type);
  if (!format)
    throw new ConvertError(
      'unknown_dtype',
      `${file.path}: tensor ${info.name} has ggml type ${info.type}; supported: ${[...GGML_FORMATS.values()].map((f) => f.name).join(', ')}`,
    );
  const width = info.shape.at(-1) ?? 0;
  if (width === 0 || width % format.block !== 0)
    throw new ConvertError(
      'wrong_shape',
      `${file.path}: ${info.name} has rows of ${width}, no multiple of ${format.block}`,
    );
  const rowBytes = (width / format.block) * format.bytes;
  const contiguous = (start: number, count: number): Float32Array => {
    const out = new Float32Array(count * width);
    format.decode(file.read(info.offset + start * rowBytes, count * rowBytes, `tensor ${info.name}`), out);
    assertFinite(out, `${file.path}: tensor ${info.name}`);
    return out;
  };
  if (permutedHeads === 0) return { name, shape: info.shape, rows: contiguous };

  // llama.cpp interleaves the two rotary halves of each head: its row 2i + h is row h * D/2 + i in Hugging Face.
  const length = permutedHeads * headDim;
  const from = (row: number): number => {
    const within = row % headDim;
    const half = headDim / 2;
    return row - within + 2 * (within % half) + (within < half ? 0 : 1);
  };
  if (info.shape.length === 1)
    return {
      name,
      shape: info.shape,
      rows() {
        const stored = contiguous(0, 1);
        return Float32Array.from({ length }, (_, row) => stored[from(row)] ?? 0);
      },
    };
  return {
    name,
    shape: info.shape,
    rows(start, count) {
      // The permutation stays inside a head, so read the whole heads around the rows.
      const first = Math.floor(start / headDim) * headDim;
      const last = Math.min(Math.ceil((start + count) / headDim) * headDim, length);
      const stored = contiguous(first, last - first);
      const out = new Float32Array(count * width);
      for (let r = 0; r < count; r++) {
        const at = (from(start + r) - first) * width;
        out.set(stored.subarray(at, at + width), r * width);
      }
      return out;
    },
  };
}

function readArchitecture(gguf: Gguf): Architecture {
  const { metadata, tensors, file } = gguf;
  const number = (key: string, fallback?: number): number => {
    const value = metadata.get(`llama.${key}`) ?? fallback;
    if (typeof value !== 'number')
      throw new ConvertError('bad_source', `${file.path}: metadata llama.${key} must be a number, got ${show(value)}`);
    return value;
  };
  if (number('expert_count', 0) > 0)
    throw new ConvertError('unsupported_architecture', `${file.path}: mixture-of-experts models are not supported`);
  const hidden = number('embedding_length');
  const heads = number('attention.head_count');
  const headDim = number('attention.key_length', hidden / heads);
  const ropeDim = number('rope.dimension_count', headDim);
  if (ropeDim !== headDim)
    throw new ConvertError(
      'unsupported_feature',
      `${file.path}: rotary width must be the head's ${headDim}, got ${ropeDim}`,
    );
  const scalingType = metadata.get('llama.rope.scaling.type');
  if (scalingType !== undefined && scalingType !== 'none')
    throw new ConvertError('unsupported_feature', `${file.path}: rope scaling ${show(scalingType)} is not supported`);
  // llama.cpp reads a factor without a type as linear scaling, and 0 as none. rope.scale_linear is the older name.
  for (const key of ['rope.scaling.factor', 'rope.scale_linear']) {
    const factor = number(key, 0);
    if (scalingType === undefined && factor !== 0 && factor !== 1)
      throw new ConvertError('unsupported_feature', `${file.path}: llama.${key} must be 0 or 1, got ${factor}`);
  }
  const ropeTheta = number('rope.freq_base', 10000);
  const factors = tensors.get('rope_freqs.weight');
  const vocabulary = metadata.get('tokenizer.ggml.tokens');
  return {
    family: 'llama',
    layers: number('block_count'),
    hidden,
    heads,
    kvHeads: number('attention.head_count_kv', heads),
    headDim,
    ffn: number('feed_forward_length'),
    vocab: tensors.get('token_embd.weight')?.shape[0] ?? (Array.isArray(vocabulary) ? vocabulary.length : 0),
    context: number('context_length'),
    normEps: Number(number('attention.layer_norm_rms_epsilon').toPrecision(7)),
    ropeTheta,
    ropeScaling: factors
      ? ropeScalingFromFactors(
          tensorOf(gguf, 'rope_freqs.weight', factors, 0, headDim).rows(0, 1),
          { headDim, theta: ropeTheta, originalContext: number('rope.scaling.original_context_length', 8192) },
          file.path,
        )
      : null,
    tiedHead: !tensors.has('output.weight'),
    attentionBias: tensors.has('blk.0.attn_q.bias'),
  };
}

function show(value: GgufValue | undefined): string {
  return value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 80);
}
