/** A Hugging Face folder as a model source: config.json, tokenizer.json, one or several safetensors files. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import Type from 'typebox';
import { Value } from 'typebox/value';
import type { Architecture } from '../../model/manifest.js';
import { ConvertError } from '../errors.js';
import { GENERATION_FIELDS } from '../generation.js';
import { HEAD, type ModelSource, type SourceSampling } from '../source.js';
import { readJson, readOptionalJson, type Json } from './json.js';
import { openSafetensors, type Safetensors } from './safetensors.js';
import { readTokenizer } from './tokenizer.js';

/** Tensors that older versions of transformers store although rope_theta determines them. */
const FREQUENCIES = /(^|\.)rotary_emb\.inv_freq$/;

/** The weight_map of model.safetensors.index.json. */
const WeightMap = Type.Record(Type.String(), Type.String());

/** Opens a folder. Throws ConvertError unless it holds a complete LlamaForCausalLM. */
export function openHuggingFace(folder: string): ModelSource {
  if (!existsSync(path.join(folder, 'config.json')))
    throw new ConvertError('bad_source', `${folder} is not a Hugging Face folder (no config.json)`);
  const config = readJson(folder, 'config.json');
  const architecture = readArchitecture(config, path.join(folder, 'config.json'));
  const tokenizer = readTokenizer(folder, config);
  const files = openWeights(folder);
  const owner = new Map(files.flatMap((file) => file.names.map((name) => [name, file] as const)));
  return {
    architecture: { ...architecture, tiedHead: architecture.tiedHead || !owner.has(HEAD) },
    tokenizer,
    name: path.basename(path.resolve(folder)),
    licence: licenceOf(folder),
    origin:
      typeof config._name_or_path === 'string' && config._name_or_path !== ''
        ? config._name_or_path
        : path.basename(path.resolve(folder)),
    sampling: readSampling(folder),
    exits: null,
    has: (name) => owner.has(name),
    names: [...owner.keys()].filter((name) => !FREQUENCIES.test(name)),
    tensor(name) {
      const file = owner.get(name);
      if (!file) throw new ConvertError('missing_tensor', `${folder} has no tensor ${name}`);
      return file.tensor(name);
    },
    close() {
      for (const file of files) file.close();
    },
  };
}

/** The values of generation_config.json. As in vLLM, they count whatever `do_sample` says. */
function readSampling(folder: string): SourceSampling[] {
  const name = 'generation_config.json';
  const json = readOptionalJson(folder, name);
  return Object.entries(GENERATION_FIELDS).flatMap(([key, field]) => {
    const value = json[key] ?? null;
    return value === null ? [] : [{ field, origin: `${path.join(folder, name)}: ${key}`, value }];
  });
}

function openWeights(folder: string): Safetensors[] {
  const index = path.join(folder, 'model.safetensors.index.json');
  let names = ['model.safetensors'];
  if (existsSync(index)) {
    const map = readJson(folder, 'model.safetensors.index.json').weight_map;
    if (!Value.Check(WeightMap, map))
      throw new ConvertError('bad_source', `${index} must have a weight_map of file names by tensor`);
    names = [...new Set(Object.values(map))].sort();
  }
  const open: Safetensors[] = [];
  try {
    for (const name of names) open.push(openSafetensors(path.join(folder, name)));
  } catch (error) {
    for (const file of open) file.close();
    throw error;
  }
  return open;
}

function readArchitecture(config: Json, file: string): Architecture {
  const kinds = config.architectures;
  const kind = Array.isArray(kinds) ? String(kinds[0]) : String(config.model_type);
  if (kind !== 'LlamaForCausalLM' && kind !== 'llama')
    throw new ConvertError('unsupported_architecture', `${file}: architecture must be LlamaForCausalLM, got ${kind}`);
  const number = (key: string, fallback?: number): number => {
    const value = config[key] ?? fallback;
    if (typeof value !== 'number')
      throw new ConvertError('bad_source', `${file}: ${key} must be a number, got ${JSON.stringify(value)}`);
    return value;
  };
  if (config.mlp_bias === true) throw new ConvertError('unsupported_feature', `${file}: mlp_bias is not supported`);
  if ((config.hidden_act ?? 'silu') !== 'silu')
    throw new ConvertError(
      'unsupported_feature',
      `${file}: hidden_act must be silu, got ${JSON.stringify(config.hidden_act)}`,
    );
  const hidden = number('hidden_size');
  const heads = number('num_attention_heads');
  // transformers 5 moved rope_theta and rope_scaling into rope_parameters.
  const rope = ropeOf(config.rope_parameters ?? config.rope_scaling ?? null, file);
  return {
    family: 'llama',
    layers: number('num_hidden_layers'),
    hidden,
    heads,
    kvHeads: number('num_key_value_heads', heads),
    headDim: number('head_dim', hidden / heads),
    ffn: number('intermediate_size'),
    vocab: number('vocab_size'),
    context: number('max_position_embeddings'),
    normEps: number('rms_norm_eps', 1e-6),
    ropeTheta: typeof rope?.rope_theta === 'number' ? rope.rope_theta : number('rope_theta', 10000),
    ropeScaling: readScaling(rope, file),
    tiedHead: config.tie_word_embeddings === true,
    attentionBias: config.attention_bias === true,
  };
}

function ropeOf(value: unknown, file: string): Json | null {
  if (typeof value === 'object' && !Array.isArray(value)) return value as Json | null;
  throw new ConvertError(
    'bad_source',
    `${file}: rope scaling must be an object or null, got ${JSON.stringify(value).slice(0, 60)}`,
  );
}

function readScaling(rope: Json | null, file: string): Architecture['ropeScaling'] {
  const type = rope?.rope_type ?? rope?.type ?? 'default';
  if (rope === null || type === 'default') return null;
  if (type !== 'llama3')
    throw new ConvertError(
      'unsupported_feature',
      `${file}: rope scaling must be llama3 or none, got ${JSON.stringify(type)}`,
    );
  const number = (key: string): number => {
    const value = rope[key];
    if (typeof value !== 'number') throw new ConvertError('bad_source', `${file}: rope scaling lacks ${key}`);
    return value;
  };
  return {
    type: 'llama3',
    factor: number('factor'),
    lowFreqFactor: number('low_freq_factor'),
    highFreqFactor: number('high_freq_factor'),
    originalContext: number('original_max_position_embeddings'),
  };
}

/** The licence in the front matter of the model card. */
function licenceOf(folder: string): string {
  const card = path.join(folder, 'README.md');
  if (!existsSync(card)) return 'unknown';
  return /^license:\s*(\S+)/m.exec(readFileSync(card, 'utf8'))?.[1] ?? 'unknown';
}
