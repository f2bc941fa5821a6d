/**
 * A GGUF file as a model source. Metadata gives the architecture, and tensor names are mapped to those of Hugging Face.
 */
import path from 'node:path';
import { familyOfGguf } from '../../architectures/families.js';
import { plainMetadata } from '../../architectures/family.js';
import { Fields } from '../../architectures/fields.js';
import { cooked, folderRecipes, ggufRecipes } from '../../architectures/recipe.js';
import { ConvertError } from '../../conversion-error.js';
import type { ModelSource, SourceSampling, SourceTensor } from '../../source.js';
import { GGML_FORMATS } from '../dequantize.js';
import { tensorOf } from '../file.js';
import { type GgufModel, readGgufModel } from './reader.js';
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
  const tensor = (stored: string): SourceTensor => {
    const found = tensors.get(stored);
    if (!found) throw new ConvertError(`${file} has no tensor ${stored}`);
    const supported = [...GGML_FORMATS.values()].map((format) => format.name);
    return tensorOf(found, supported);
  };
  const description = (family.fromMetadata ?? plainMetadata)({
    file,
    fields: new Fields(
      (key) => metadata.get(`${String(name)}.${key}`),
      (key) => `${file}: metadata ${String(name)}.${key}`,
    ),
    vocab: tensors.get('token_embd.weight')?.shape[0] ?? (Array.isArray(vocabulary) ? vocabulary.length : 0),
    has: (stored) => tensors.has(stored),
    values: (stored) => (tensors.has(stored) ? tensor(stored).rows(0, 1) : null),
  });
  const { architecture } = description;
  const raw = { names: [...tensors.keys()].filter((stored) => !FREQUENCIES.test(stored)), tensor };
  const exits = metadata.get('sorted.exits');
  const text = (key: string, otherwise: string): string => {
    const value = metadata.get(key);
    return typeof value === 'string' && value !== '' ? value : otherwise;
  };
  return {
    architecture,
    blocks: folderRecipes(family, description),
    ownBlocks: null,
    prompt: null,
    gate: null,
    loopAccuracy: family.loopAccuracy ?? null,
    tokenizer: ggufTokenizer(metadata, file),
    licence: text('general.license', 'unknown'),
    origin: `${text('general.name', 'unnamed')} (${path.basename(file)})`,
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
