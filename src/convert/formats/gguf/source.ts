/**
 * A GGUF file as a model source. Metadata gives the architecture, and tensor names are mapped to those of Hugging Face.
 */
import path from 'node:path';
import { folderRecipes, ggufRecipes } from '../../architectures/description.js';
import { Fields } from '../../architectures/fields.js';
import { familyOfGguf } from '../../architectures/index.js';
import { plainMetadata } from '../../architectures/plain.js';
import { cooked } from '../../architectures/recipe.js';
import { ggufPart } from '../../../util/gguf-parts.js';
import { ConvertError } from '../../conversion-error.js';
import { assertFinite } from '../../file.js';
import type { ModelSource, SourceSampling } from '../../source.js';
import type { SourceTensor, Tensors } from '../../tensors.js';
import { GGML_FORMATS } from './dequantize.js';
import { type GgufModel, readGgufModel } from './model.js';
import type { GgufTensorInfo } from './reader.js';
import { ggufTokenizer } from './tokenizer.js';

/** Keys below `general.sampling.`, as llama.cpp reads them. */
const SAMPLING_KEYS = [
  ['temp', 'temperature'],
  ['top_p', 'topP'],
  ['top_k', 'topK'],
  ['min_p', 'minP'],
  ['penalty_repeat', 'repetitionPenalty'],
] as const;

/** Rotary frequencies. The readers read the first two; the tensors of older files follow from the architecture. */
const FREQUENCIES = /^(rope_freqs\.weight|rope_factors_(long|short)\.weight|blk\.\d+\.attn_rot_embd(\.weight)?)$/;

/**
 * Opens a GGUF file, or all parts of a split one. Throws ConvertError unless it holds a model that the converter reads.
 */
export function openGguf(file: string): ModelSource {
  const gguf = readGgufModel(file);
  try {
    return source(gguf);
  } catch (error) {
    gguf.close();
    throw error;
  }
}

function source(gguf: GgufModel): ModelSource {
  const { metadata, path: file, tensors, close } = gguf;
  const name = metadata.get('general.architecture');
  const family = familyOfGguf(name, file);
  const vocabulary = metadata.get('tokenizer.ggml.tokens');
  const description = (family.fromMetadata ?? plainMetadata)({
    name: String(name),
    file,
    fields: new Fields(
      (key) => metadata.get(`${String(name)}.${key}`),
      (key) => `${file}: metadata ${String(name)}.${key}`,
    ),
    vocab: tensors.get('token_embd.weight')?.shape[0] ?? (Array.isArray(vocabulary) ? vocabulary.length : 0),
    has: (tensor) => tensors.has(tensor),
    values: (tensor) => {
      const info = tensors.get(tensor);
      return info ? tensorOf(info).rows(0, 1) : null;
    },
  });
  const { architecture } = description;
  const raw: Tensors = {
    names: [...tensors.keys()].filter((tensor) => !FREQUENCIES.test(tensor)),
    tensor(tensor) {
      const info = tensors.get(tensor);
      if (!info) throw new ConvertError(`${file} has no tensor ${tensor}`);
      return tensorOf(info);
    },
  };
  const exits = metadata.get('sorted.exits');
  const text = (key: string): string | null => {
    const value = metadata.get(key);
    return typeof value === 'string' && value !== '' ? value : null;
  };
  return {
    architecture,
    blocks: folderRecipes(family, description),
    ownBlocks: null,
    prompt: null,
    gate: null,
    loopAccuracy: family.loopAccuracy ?? null,
    tokenizer: ggufTokenizer(metadata, file),
    name: text('general.name') ?? path.basename(ggufPart(file)?.stem ?? file, '.gguf'),
    licence: text('general.license') ?? 'unknown',
    origin: `${text('general.name') ?? 'unnamed'} (${path.basename(file)})`,
    sampling: readSampling(gguf),
    exits: Array.isArray(exits) ? exits.map(Number) : null,
    ...cooked(raw, ggufRecipes(family, description), architecture.layers),
    close,
  };
}

function readSampling({ metadata, path: file }: GgufModel): SourceSampling[] {
  return SAMPLING_KEYS.flatMap(([key, field]) => {
    const name = `general.sampling.${key}`;
    const value = metadata.get(name);
    if (value === undefined) return [];
    // 32-bit floats: 0.9 is stored as 0.8999999762.
    const rounded = typeof value === 'number' ? Number(value.toPrecision(7)) : value;
    return [{ field, origin: `${file}: ${name}`, value: rounded }];
  });
}

/** A stored tensor; its rows are decoded on demand. */
function tensorOf({ name, shape, type, file, offset }: GgufTensorInfo): SourceTensor {
  const format = GGML_FORMATS.get(type);
  if (!format)
    throw new ConvertError(
      `${file.path}: tensor ${name} has ggml type ${type}; supported: ${[...GGML_FORMATS.values()].map((f) => f.name).join(', ')}`,
    );
  const width = shape.at(-1) ?? 0;
  if (width === 0 || width % format.block !== 0)
    throw new ConvertError(`${file.path}: ${name} has rows of ${width}, no multiple of ${format.block}`);
  const rowBytes = (width / format.block) * format.bytes;
  return {
    name,
    shape,
    rows(start, count) {
      const out = new Float32Array(count * width);
      format.decode(file.read(offset + start * rowBytes, count * rowBytes, `tensor ${name}`), out);
      assertFinite(out, `${file.path}: tensor ${name}`);
      return out;
    },
  };
}
