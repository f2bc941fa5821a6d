/** Models that the graphs can not follow, looped ones, and models with a prompt exit: one error names the field. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { goldenLoops } from './golden-loops.js';
import { goldenModel } from './golden-model.js';
import { promptModel, writePromptModel } from './prompt-models.js';
import {
  type Change,
  changed,
  file,
  golden,
  having,
  rejects,
  rejectsOptions,
  type Source,
  without,
} from './rejected.js';
import { ggufMetadata } from './tiny.js';

const of = (name: string, change: Change) => golden(goldenModel(name), change);

const ROPE = { rope_type: 'longrope', rope_theta: 1e4, partial_rotary_factor: 0.5 };

void t.test('models that the graphs cannot follow are rejected by name', (t) =>
  rejects(t, {
    ...Object.fromEntries(
      ['Qwen3MoeForCausalLM', 'DeepseekV2ForCausalLM', 'MambaForCausalLM', 'Gemma4ForCausalLM'].map((name) => [
        `config.json: architecture must be one of LlamaForCausalLM, ...Gemma3ForCausalLM, ..., got ${name}`,
        of('qwen3', { architectures: [name] }),
      ]),
    ),
    'num_local_experts must be 0 (mixture-of-experts models are not supported), got 8': of('granite4', {
      num_local_experts: 8,
    }),
    'layer_types must be full_attention or sliding_attention for each layer, got ["mamba"...': of('granite4', {
      layer_types: ['mamba', 'attention', 'mamba', 'mamba'],
    }),
    'layer_types must be a list of attention layers, got nothing': of('granite4', { layer_types: undefined }),
    'layer_types must be full_attention or sliding_attention for each layer, got ["linear_attention"...': of('qwen3', {
      layer_types: new Array(4).fill('linear_attention'),
    }),
    'layer_types must be a list of 4 types, got ["full_attention"]': of('qwen3', { layer_types: ['full_attention'] }),
    'use_bidirectional_attention must be false, got true': of('gemma3', { use_bidirectional_attention: true }),
    'attn_logit_softcapping must be absent, got 50': of('gemma3', { attn_logit_softcapping: 50 }),
    'hidden_act must be silu or gelu_pytorch_tanh, got "relu2"': of('qwen2', { hidden_act: 'relu2' }),
    'rope_parameters.short_factor must be a list of numbers, got nothing': of('phi4-long', { rope_parameters: ROPE }),
    'rotary factors must be 8, one for each pair, got 2': of('phi4-long', {
      rope_parameters: { ...ROPE, short_factor: [1, 1], long_factor: [1, 2] },
    }),
    'rotary width must be an even number up to the head size (32), got 23': of('phi3', {
      rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.72 },
    }),
    'model.layers.0.self_attn.q_proj.bias': of('qwen3', { attention_bias: true }),
    'has no tensor model.layers.2.self_attn.q_norm.weight': of(
      'qwen3',
      without('model.layers.2.self_attn.q_norm.weight'),
    ),
    'has no tensor model.layers.1.self_attn.k_proj.bias': of('qwen2', without('model.layers.1.self_attn.k_proj.bias')),
    'model.layers.0.self_attn.qkv_proj.weight must have 128 rows, got [96, 64]': of(
      'phi3',
      having('model.layers.0.self_attn.qkv_proj.weight', [96, 64]),
    ),
    'tensors must be those of the architecture ..., got model.layers.0.input_layernorm.weight': of(
      'olmo2',
      having('model.layers.0.input_layernorm.weight', [64]),
    ),
  }),
);

const looped = (change?: Change) => golden(goldenLoops('ouro-4'), change);

void t.test('looped models with a fault are rejected', (t) =>
  rejects(t, {
    'config.json: total_ut_steps must be an integer from 1 to 64, got ...': [0, 2.5, -1, 1e9].map((loops) =>
      looped({ total_ut_steps: loops }),
    ),
    'config.json: total_ut_steps must be a number, got "four"': looped({ total_ut_steps: 'four' }),
    'has no tensor model.early_exit_gate.weight': looped(without('model.early_exit_gate.weight')),
    'tensor model.early_exit_gate.weight must have shape [1, 64], got [64]': looped(
      having('model.early_exit_gate.weight', [64]),
    ),
    'has no tensor model.layers.0.input_layernorm_2.weight': looped((weights) => {
      for (const name of [...weights.keys()]) if (name.includes('norm_2')) weights.delete(name);
    }),
    'tensors must be those of the architecture ..., got model.layers.0.input_layernorm_2.weight': looped({
      architectures: ['LlamaForCausalLM'],
    }),
    'metadata ouro.num_loops must be a number, got nothing': file(ggufMetadata('ouro')),
    'metadata nanbeige.num_loops must be a number, got nothing': file(ggufMetadata('nanbeige')),
    'config.json: IQuestLoopCoderForCausalLM is not supported: loops after the first mix in attention over...': looped({
      architectures: ['IQuestLoopCoderForCausalLM'],
    }),
    'config.json: loop_share_kv must be absent or false, got true': looped({
      ...{ architectures: ['NanbeigeForCausalLM'], num_loops: 2, loop_share_kv: true },
    }),
  }),
);

void t.test('options that a looped model lacks are rejected', (t) =>
  rejectsOptions(t, looped(), {
    '--exits of a looped model must be at most its 4 loops (total_ut_steps or num_loops), got 5': {
      exits: [1, 2, 3, 4, 5],
    },
    '--exits of a looped model must be its loops from 1 on without a gap, such as 1,2, got ...': [
      ...[[2, 4], [0], [2, 1], []].map((exits) => ({ exits })),
    ],
    "--exit-blocks can't be combined with a looped model...": { exits: [1, 2], exitBlocks: 'blocks.safetensors' },
  }),
);

const PROMPTED = promptModel('Llama', { layers: 4, exit: 2, group: 2 });

const prompted =
  (change: Change = {}): Source =>
  (dir) => {
    const { fields, weights } = changed(PROMPTED.weights, change);
    return writePromptModel(dir, { ...PROMPTED, weights }, fields);
  };

/** A folder whose tensors claim to be in FP8, with a byte for each value. */
function inFp8(dir: string): string {
  const source = prompted()(dir);
  const file = path.join(source, 'model.safetensors');
  const bytes = readFileSync(file);
  const end = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString('utf8', 8, end)) as Record<
    string,
    { dtype: string; data_offsets: number[] }
  >;
  for (const entry of Object.values(header)) {
    entry.dtype = 'F8_E4M3';
    entry.data_offsets = entry.data_offsets.map((at) => at / 4);
  }
  const text = Buffer.from(JSON.stringify(header));
  bytes.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(file, Buffer.concat([bytes.subarray(0, 8), text, Buffer.alloc((bytes.length - end) / 4)]));
  return source;
}

const QUERY = 'model.layers.3.self_attn.q_proj_swiftkv.weight';

void t.test('models with a faulty prompt exit are rejected', (t) =>
  rejects(t, {
    'config.json: num_key_value_layers must be an integer from 1 to 4, got ...': [0, 5, 1.5, -1].map((layers) =>
      prompted({ num_key_value_layers: layers }),
    ),
    'config.json: num_key_value_layers must be a number, got nothing': prompted({ num_key_value_layers: undefined }),
    'config.json: key_value_group_size must be an integer from 1 to 4, got 0': prompted({ key_value_group_size: 0 }),
    'config.json: kv_sharing_map must be absent or empty ..., got {"3":1}': prompted({ kv_sharing_map: { 3: 1 } }),
    'quantization_config must be absent (FP8 is not read; ...), got {"quant_method":"fbgemm_fp8"}': prompted({
      quantization_config: { quant_method: 'fbgemm_fp8' },
    }),
    'tensor model....has dtype F8_E4M3; supported: F32, F16, BF16': inFp8,
    'no tensor for model.layers.3.self_attn.q_proj.weight behind its prompt exit...': prompted(without(QUERY)),
    'no tensor for model.norm_swiftkv.weight...': prompted(without('model.norm_swiftkv.weight')),
    'q_proj_swiftkv.weight must have shape [64, 64], got [64]': prompted(having(QUERY, [64])),
    'tensors must be those of the architecture ..., got model.layers.3.self_attn.k_proj.weight': prompted(
      having('model.layers.3.self_attn.k_proj_swiftkv.weight', [32, 64]),
    ),
    'architecture must be one of ...LlamaSwiftKVForCausalLM..., got DeepseekV2SwiftKVForCausalLM': prompted({
      architectures: ['DeepseekV2SwiftKVForCausalLM'],
    }),
  }),
);

void t.test('options that a prompt exit does not allow are rejected', (t) =>
  rejectsOptions(t, prompted(), {
    '--exits must lie below the prompt exit, 2, besides the last layer, got 3': { exits: [1, 3, 4] },
    '--calibration must be absent for a model with a prompt exit, ..., got c.safetensors': {
      ...{ exits: [4], kernels: ['w8a8'], calibration: 'c.safetensors' },
    },
    '--exit-blocks must be absent for a model with a prompt exit, ..., got b.safetensors': {
      ...{ exits: [1, 4], exitBlocks: 'b.safetensors' },
    },
  }),
);
