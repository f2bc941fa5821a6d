/**
 * The table of architectures that the converter reads. To add one:
 *
 * 1. Read the model's own code in transformers, and the class in llama.cpp's conversion.
 * 2. Add a `Family`: class names, `fromConfig` and `fromMetadata` as changes of `family.ts`, and the names of tensors
 *    that differ. Fold what weights can take. The graphs follow the manifest's `architecture`, never a family's name:
 *    another difference needs a field there, and its nodes in `src/convert/graphs`.
 * 3. Add the model to `test/golden/architectures/make.py`, with a window or scaling shorter than its prompts. Run it
 *    with the training environment. `test/convert/architectures.test.ts` then compares both formats.
 * 4. Add the row in docs/models.md.
 *
 * Layer i of the block of exit n has the kind of trunk layer n + i.
 */
import type { Architecture, Loops } from '../../engine/model/architecture.js';
import { ConvertError } from '../conversion-error.js';
import { changed, plainConfig, plainMetadata, slidingLayers, windowed, windowOf, withKinds } from './family.js';
import type { Description, Differences, Family } from './family.js';
import type { Fields } from './fields.js';
import { gemma2, gemma3 } from './gemma.js';
import { gemma4 } from './gemma4.js';
import { ropeFields } from './rotary.js';

/** Llama, also with the exits of Balcony or the prompt exit of SwiftKV; its GGUF files may hold a Mistral. */
export const llama: Family = {
  classes: {
    LlamaForCausalLM: 'llama',
    NestedLlamaForCausalLM: 'nested_llama',
    LlamaSwiftKVForCausalLM: 'llama_swiftkv',
  },
  gguf: ['llama'],
  fromConfig: (config) => plainConfig(config),
  fromMetadata: (metadata) => windowed(plainMetadata(metadata), metadata.fields.optional('attention.sliding_window')),
  alternates: true,
};

/** Mistral and Ministral (2410): a window in all layers, or in those that a config names. */
const mistral: Family = {
  classes: { MistralForCausalLM: 'mistral', MinistralForCausalLM: 'ministral' },
  defaults: { sliding_window: 4096 },
  fromConfig(config) {
    const plain = plainConfig(config);
    const sliding = slidingLayers(config, plain, () => true);
    return windowed(plain, config.optional('sliding_window'), sliding);
  },
};

/** Ministral 3 (2512), dense: queries that grow with the position. */
const ministral3: Family = {
  classes: { Ministral3ForCausalLM: 'ministral3' },
  defaults: { head_dim: 128 },
  gguf: ['mistral3'],
  fromConfig(config) {
    const rope = ropeFields(config);
    const beta = rope.number('llama_4_scaling_beta');
    const queryGrowth = beta === 0 ? null : { beta, originalContext: rope.number('original_max_position_embeddings') };
    return windowed(changed(plainConfig(config), { queryGrowth }), config.optional('sliding_window'));
  },
  fromMetadata(metadata) {
    const beta = metadata.fields.number('attention.temperature_scale', 0);
    const originalContext = metadata.fields.number('rope.scaling.original_context_length', 0);
    return changed(plainMetadata(metadata), { queryGrowth: beta === 0 ? null : { beta, originalContext } });
  },
  alternates: true,
};

/** Qwen2 and Qwen2.5: biases of queries, keys and values, and none of the output. */
const qwen2: Family = {
  classes: { Qwen2ForCausalLM: 'qwen2', Qwen2SwiftKVForCausalLM: 'qwen2_swiftkv' },
  gguf: ['qwen2'],
  fromConfig: (config) => withDeepWindows(changed(plainConfig(config), { qkvBias: true, outputBias: false }), config),
};

/** Norms of each head of queries and keys. */
const qwen3: Family = {
  classes: { Qwen3ForCausalLM: 'qwen3', Qwen3SwiftKVForCausalLM: 'qwen3_swiftkv' },
  defaults: { head_dim: 128 },
  gguf: ['qwen3'],
  fromConfig: (config) => withDeepWindows(changed(plainConfig(config), { qkNorm: 'head' }), config),
  fromMetadata: (metadata) => changed(plainMetadata(metadata), { qkNorm: 'head' }),
};

/** Adds the windows of the layers from `max_window_layers` on. */
function withDeepWindows(description: Description, config: Fields): Description {
  const first = config.number('max_window_layers', 28);
  const window = config.flag('use_sliding_window') ? config.number('sliding_window', 4096) : null;
  const sliding = slidingLayers(config, description, (index) => window !== null && index >= first);
  return windowed(description, window, sliding);
}

/** Some layers do not rotate: every fourth, as llama.cpp assumes for every file. */
const smollm3: Family = {
  classes: { SmolLM3ForCausalLM: 'smollm3' },
  gguf: ['smollm3'],
  fromConfig(config) {
    const plain = plainConfig(config, { theta: 2e6 });
    // 1 is a layer with positions, in spite of the field's name.
    const listed = config.numbers('no_rope_layers')?.map((value) => value === 1);
    const rotated = listed ?? rotatedLayers(plain, config.number('no_rope_layer_interval', 4));
    const window = config.flag('use_sliding_window') ? config.optional('sliding_window') : null;
    const sliding = slidingLayers(config, plain, (index) => window !== null && !rotated[index]);
    const width = windowOf(window, plain);
    return withKinds(plain, (i) => ({ rotary: rotated[i] ? 0 : null, window: sliding[i] ? width : null }));
  },
  fromMetadata(metadata) {
    const plain = plainMetadata(metadata, { theta: 2e6 });
    const rotated = rotatedLayers(plain, 4);
    return withKinds(plain, (i) => ({ rotary: rotated[i] ? 0 : null, window: null }));
  },
  alternates: true,
};

function rotatedLayers({ architecture: { layers } }: Description, interval: number): boolean[] {
  return Array.from({ length: layers }, (_, i) => (i + 1) % interval !== 0);
}

/** Granite 3: multipliers of embeddings, scores, residual and logits. */
const granite: Family = {
  classes: { GraniteForCausalLM: 'granite' },
  gguf: ['granite'],
  fromConfig: (config) => multiplied(plainConfig(config), config),
  fromMetadata(metadata) {
    const { fields } = metadata;
    const plain = plainMetadata(metadata);
    const embeddingScale = fields.number('embedding_scale', 1);
    const attentionScale = fields.number('attention.scale', plain.architecture.attentionScale);
    return {
      ...changed(plain, { embeddingScale, attentionScale }),
      residualScale: fields.number('residual_scale', 1),
      logitScale: 1 / fields.number('logit_scale', 1),
    };
  },
  alternates: true,
};

/**
 * The class of Granite 4. Its dense models have attention in all layers and one packed MLP; GGUF files say `granite`.
 */
const graniteHybrid: Family = {
  classes: { GraniteMoeHybridForCausalLM: 'granitemoehybrid' },
  defaults: { num_local_experts: 8 },
  fromConfig(config) {
    if (config.number('num_local_experts') > 0)
      throw config.fault('num_local_experts', '0 (mixture-of-experts models are not supported)');
    const plain = plainConfig(config);
    // A config without types has recurrent layers alone.
    if (config.list('layer_types') === null) throw config.fault('layer_types', 'a list of attention layers');
    slidingLayers(config, plain, () => false);
    const rotary = config.get('position_embedding_type') === 'rope' ? 0 : null;
    const pattern = [{ rotary, window: null }];
    return multiplied(changed(plain, { ffn: config.number('shared_intermediate_size'), pattern }), config);
  },
  tensors: (arch) => ({
    ...packedMlp(arch, 'shared_mlp.input_linear.weight'),
    down: { stored: 'shared_mlp.output_linear.weight' },
  }),
};

function multiplied(plain: Description, config: Fields): Description {
  const embeddingScale = config.number('embedding_multiplier', 1);
  const attentionScale = config.number('attention_multiplier', 1);
  return {
    ...changed(plain, { embeddingScale, attentionScale }),
    residualScale: config.number('residual_multiplier', 1),
    logitScale: 1 / config.number('logits_scaling', 1),
  };
}

/** Phi-3, Phi-3.5, Phi-4 and their mini models: packed projections, part of each head rotates, longrope. */
const phi3: Family = {
  classes: { Phi3ForCausalLM: 'phi3' },
  gguf: ['phi3'],
  fromConfig(config) {
    const rope = ropeFields(config);
    const partial = rope.number('partial_rotary_factor', config.number('partial_rotary_factor', 1));
    return windowed(plainConfig(config, { partial }), config.optional('sliding_window'));
  },
  fromMetadata: (metadata) => windowed(plainMetadata(metadata), metadata.fields.optional('attention.sliding_window')),
  tensors: (arch) => packed(arch, 'self_attn.qkv_proj.weight', 'mlp.gate_up_proj.weight'),
  ggufTensors: (arch) => packed(arch, 'attn_qkv.weight', 'ffn_up.weight'),
};

function packed(arch: Architecture, qkv: string, gateUp: string): Differences {
  const q = arch.heads * arch.headDim;
  const kv = arch.kvHeads * arch.headDim;
  const of = q + 2 * kv;
  return {
    q: { stored: qkv, rows: { start: 0, count: q, of } },
    k: { stored: qkv, rows: { start: q, count: kv, of } },
    v: { stored: qkv, rows: { start: q + kv, count: kv, of } },
    ...packedMlp(arch, gateUp),
  };
}

function packedMlp({ ffn }: Architecture, stored: string): Differences {
  return {
    gate: { stored, rows: { start: 0, count: ffn, of: 2 * ffn } },
    up: { stored, rows: { start: ffn, count: ffn, of: 2 * ffn } },
  };
}

const postNorms = (plain: Description): Description => changed(plain, { norms: 'post', qkNorm: 'all' });

/** Norms of outputs in place of inputs, norms of all heads of queries and keys together. */
const olmo2: Family = {
  classes: { Olmo2ForCausalLM: 'olmo2' },
  gguf: ['olmo2'],
  fromConfig: (config) => postNorms(plainConfig(config)),
  fromMetadata(metadata) {
    const { fields } = metadata;
    // OLMo 3 has the same name there, and windows.
    if (fields.optional('attention.sliding_window') !== null)
      throw fields.fault('attention.sliding_window', 'absent (OLMo 3 is not supported)');
    return postNorms(plainMetadata(metadata));
  },
  tensors: () => ({
    attnOutNorm: { stored: 'post_attention_layernorm.weight' },
    mlpOutNorm: { stored: 'post_feedforward_layernorm.weight' },
  }),
};

/**
 * One block of layers that runs `total_ut_steps` times. The shared norm ends every loop, and a gate reads the normed
 * states. Norms stand around attention and around the MLP.
 */
const ouro: Family = {
  classes: { OuroForCausalLM: 'ouro' },
  defaults: { total_ut_steps: 4 },
  gguf: ['ouro'],
  fromConfig(config) {
    const loops = loopsOf(config, 'total_ut_steps', 'final');
    return withDeepWindows(changed(plainConfig(config), { norms: 'both', loops }), config);
  },
  // The keys of llama.cpp's pull request 29823, which leaves out the gate.
  fromMetadata: (metadata) =>
    changed(plainMetadata(metadata), { norms: 'both', loops: loopsOf(metadata.fields, 'num_loops') }),
  tensors: () => ({
    attnOutNorm: { stored: 'input_layernorm_2.weight' },
    mlpOutNorm: { stored: 'post_attention_layernorm_2.weight' },
  }),
  alternates: true,
  gate: 'model.early_exit_gate',
  // Ouro-1.4B on GSM8K, loops 1 to 4: .203, .635, .759, .790 (JunYoungLee/ut-depth-probe-artifacts on Hugging Face).
  loopAccuracy: [0.26, 0.8, 0.96, 1],
};

/** Parts of the class of Nanbeige that its published checkpoint leaves out. */
const ABSENT = [
  ...['qk_layernorm', 'emb_neighbor_num', 'insert_ngram_layer_idx', 'ngram_insert_all_layers'],
  ...['enable_double_loop_split', 'loop_middle_layers', 'loop_share_kv', 'enable_hyper_connection', 'enable_mhc'],
  ...['enable_h_res_identity', 'enable_depth_attention'],
];

/** Nanbeige 4.2: the layers of a Llama, `num_loops` times, with the shared norm between loops. */
const nanbeige: Family = {
  classes: { NanbeigeForCausalLM: 'nanbeige' },
  gguf: ['nanbeige'],
  fromConfig(config) {
    const isAbsent = (value: unknown): boolean =>
      value === undefined || value === false || (Array.isArray(value) && value.length === 0);
    const present = ABSENT.find((key) => !isAbsent(config.get(key)));
    if (present !== undefined) throw config.fault(present, 'absent or false');
    return changed(plainConfig(config), { loops: loopsOf(config, 'num_loops') });
  },
  fromMetadata: (metadata) => changed(plainMetadata(metadata), { loops: loopsOf(metadata.fields, 'num_loops') }),
  alternates: true,
  // One loop has no published figure, so the scheduler does not choose it.
  loopAccuracy: [0, 1],
};

/** Far above any published model; a damaged file may claim billions. */
const MOST_LOOPS = 64;

/**
 * The loops that a source states. llama.cpp reads a file without `num_loops` as one loop, which answers wrongly.
 * @throws ConvertError for a count that is missing or out of range
 */
function loopsOf(
  fields: Fields,
  key: string,
  norm: Loops['norm'] = fields.flag('skip_loop_final_norm') ? 'none' : 'final',
): Loops {
  const count = fields.number(key);
  if (!Number.isInteger(count) || count < 1 || count > MOST_LOOPS)
    throw fields.fault(key, `an integer from 1 to ${MOST_LOOPS}`);
  return { count, norm };
}

const FAMILIES: readonly Family[] = [
  ...[llama, mistral, ministral3, qwen2, qwen3, smollm3, granite, graniteHybrid, phi3, olmo2, gemma2, gemma3, gemma4],
  ...[ouro, nanbeige],
];

/** Looped classes that the graphs lack a part of. */
const UNBUILT: Readonly<Record<string, string>> = {
  IQuestLoopCoderForCausalLM: 'loops after the first mix in attention over the keys of the first, by gates',
};

/** The family of a class in config.json, or of a `model_type` if the config names no class. */
export function familyOfConfig(architectures: unknown, modelType: unknown, file: string): Family {
  const name = Array.isArray(architectures) ? String(architectures[0]) : null;
  const found = FAMILIES.find(({ classes }) =>
    name === null ? Object.values(classes).includes(String(modelType)) : Object.hasOwn(classes, name),
  );
  if (found) return found;
  if (name !== null && UNBUILT[name]) throw new ConvertError(`${file}: ${name} is not supported: ${UNBUILT[name]}`);
  const known = FAMILIES.flatMap(({ classes }) => Object.keys(classes));
  throw unknown(file, known, name ?? String(modelType));
}

/** The family of `general.architecture`. */
export function familyOfGguf(name: unknown, file: string): Family {
  const found = FAMILIES.find(({ gguf }) => gguf?.includes(String(name)));
  if (found) return found;
  const known = FAMILIES.flatMap(({ gguf = [] }) => gguf);
  throw unknown(file, known, JSON.stringify(name));
}

function unknown(file: string, known: readonly string[], got: string): ConvertError {
  return new ConvertError(`${file}: architecture must be one of ${known.join(', ')}, got ${got}`);
}
