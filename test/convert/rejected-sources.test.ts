/** Invalid sources of a conversion: each gives one clear error and leaves no output. */
import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { gguf, ggufMetadata, SHAPE, tinyWeights, tokenizerJson, u32, u64, writeGgufParts } from './tiny.js';
import {
  file,
  folder,
  having,
  rejects,
  type Source,
  withFile,
  without,
  written,
  type Change,
  changed,
  golden,
  rejectsOptions,
} from './rejected.js';
import { goldenLoops, goldenModel } from './golden-model.js';
import { promptModel, writePromptModel } from './prompt-models.js';

const bytes = gguf(tinyWeights(1), ggufMetadata());

const LLAMA3 = {
  ...{ rope_type: 'llama3', factor: 8, low_freq_factor: 1 },
  ...{ high_freq_factor: 4, original_max_position_embeddings: 16 },
};

/** The start of a GGUF file. @param rest what follows */
const damagedGguf = (tensors: number, keys: number, ...rest: readonly Buffer[]): Buffer =>
  Buffer.concat([u32(0x46554747), u32(3), u64(tensors), u64(keys), ...rest]);

/** A key k with an array of `values` bytes. */
const arrayGguf = (values: number) => damagedGguf(0, 1, u64(1), Buffer.from('k'), u32(9), u32(0), u64(values));

/** A key with an array of one array, and so on. */
function nestedGguf(depth: number): Buffer {
  const arrays = Array.from({ length: depth }, () => [u32(9), u64(1)]).flat();
  return damagedGguf(0, 1, u64(1), Buffer.from('k'), u32(9), ...arrays, u32(0), u64(0));
}

/** A tensor named t that claims the most dimensions, and only some of them are in the file. */
const manyDimensions = (): Buffer =>
  Buffer.concat([damagedGguf(1, 0, u64(1), Buffer.from('t'), u32(0xffffffff)), Buffer.alloc(8 * 1000)]);

/** A folder with a header of its safetensors file. */
const withHeader = (header: string) =>
  withFile('model.safetensors', Buffer.concat([u64(header.length), Buffer.from(header)]));

const withIndex = (index: string) => withFile('model.safetensors.index.json', index);

const withTokenizer = (parts: object) => withFile('tokenizer.json', JSON.stringify(tokenizerJson(parts)));

/** A change of a source in its folder. */
const modified =
  (source: Source, change: (source: string) => unknown): Source =>
  (dir) => {
    const made = source(dir);
    change(made);
    return made;
  };

/** A folder with other bytes of its weights. */
const withBytes = (change: (bytes: Buffer) => Buffer) =>
  modified(folder(), (source) => {
    const weights = path.join(source, 'model.safetensors');
    writeFileSync(weights, change(readFileSync(weights)));
  });

/** A GGUF model in three parts. @param change of their files */
const inParts = (change: (first: string, second: string, third: string) => unknown) => (dir: string) => {
  const [first = '', second = '', third = ''] = writeGgufParts(dir, tinyWeights(1), 3);
  change(first, second, third);
  return first;
};

void t.test('damaged files and unknown formats are rejected', (t) =>
  rejects(t, {
    'does not exist': (dir) => path.join(dir, 'nothing'),
    'is truncated...': [
      written('x.gguf', bytes.subarray(0, -5000)),
      written('x.gguf', bytes.subarray(0, 3000)),
      withBytes((bytes) => bytes.subarray(0, -100)),
    ],
    'must have a name like model-00001-of-00003.gguf, since it is part 2 of 3': file({
      ...{ 'split.no': 1, 'split.count': 3 },
    }),
    'tiny.gguf: general.alignment must be a positive integer, got ...': [0, 0.5, 'x'].map((alignment) =>
      file({ 'general.alignment': alignment }),
    ),
    'model.safetensors is not a safetensors file: its header must be an object, got ...': [
      withHeader('null'),
      withHeader('[]'),
    ],
    'model.safetensors is not a safetensors file: its entry x must have dtype...': [
      withHeader('{"x": null}'),
      withHeader('{"x": {"dtype": "F32", "shape": [1], "data_offsets": [null, 4]}}'),
    ],
    'model.safetensors.index.json must have a weight_map of file names by tensor': [
      ...['{"weight_map": {"x": 5}}', '{"weight_map": [null]}', '{}'].map(withIndex),
    ],
    'is not a GGUF file': written('x.gguf', 'something else entirely'),
    'output_norm.weight has ggml type 16...': written(
      'x.gguf',
      gguf(tinyWeights(1), ggufMetadata(), false, { 'output_norm.weight': 16 }),
    ),
    'has dtype F64...': withBytes((bytes) => Buffer.from(bytes.toString('latin1').replace('"F32"', '"F64"'), 'latin1')),
    'tokenizer.json must be JSON: ...': withFile('tokenizer.json', '{"model": '),
    'tokenizer.json: /model must have required properties vocab...': withFile('tokenizer.json', '{"model": {}}'),
    'rope_scaling must be an object or null, got "linear"': folder({ rope_scaling: 'linear' }),
    'tokenizer.ggml.token_type must be a list, got 5': file({ 'tokenizer.ggml.token_type': 5 }),
    'holds an array of arrays...': written('x.gguf', nestedGguf(50_000)),
    'tensor t must have at most 4 dimensions, got 4294967295': written('x.gguf', manyDimensions()),
    '/added_tokens/0/id must be <= 16777216': withTokenizer({
      added_tokens: [{ id: 4_294_967_290, content: '<pad>', special: true }],
    }),
  }),
);

void t.test('a part of a GGUF model that is missing, of another model, repeated or not complete is named', (t) =>
  rejects(t, {
    'tiny-00001-of-00003.gguf is one of 3 parts, and ...tiny-00002-of-00003.gguf is missing': inParts((_, second) => {
      rmSync(second);
    }),
    'tiny-00002-of-00003.gguf must have a name like model-00001-of-00003.gguf, since it is part 3 of 3': inParts(
      (_, second, third) => {
        cpSync(third, second);
      },
    ),
    'tiny-00002-of-00003.gguf repeats the tensor token_embd.weight of an earlier part': inParts((_, second) => {
      writeFileSync(second, gguf(tinyWeights(1), { 'split.no': 1, 'split.count': 3 }));
    }),
    'tiny-00001-of-00003.gguf must have 99 tensors in all parts, got ...': inParts((first) => {
      const split = { 'split.no': 0, 'split.count': 3, 'split.tensors.count': 99 };
      writeFileSync(first, gguf(new Map(), { ...ggufMetadata(), ...split }));
    }),
  }),
);

/** A GGUF file of a terabyte that takes no space on the disk. */
const sparse = (head: Buffer) =>
  modified(written('sparse.gguf', head), (source) => {
    truncateSync(source, 2 ** 40);
  });

/** A folder with a file that is a link. */
const linked = (name: string, target: string) =>
  modified(folder(), (source) => {
    rmSync(path.join(source, name), { force: true });
    symlinkSync(target, path.join(source, name));
  });

/** A link out of the blobs of a download. */
function linkedBlobs(dir: string): string {
  const snapshot = path.join(dir, 'snapshots', 'main');
  cpSync(folder()(dir), snapshot, { recursive: true });
  symlinkSync('/etc', path.join(dir, 'blobs'));
  symlinkSync('../../blobs/hosts', path.join(snapshot, 'chat_template.jinja'));
  return snapshot;
}

void t.test('a folder can neither name files outside of it, nor hang or fill the conversion', (t) =>
  rejects(t, {
    'the header must have at most 8388608 values, got 100000000001': sparse(arrayGguf(1e11)),
    'the header must have at most 268435456 bytes, got 1000000000': sparse(damagedGguf(0, 1, u64(1e9 - 32))),
    'its header needs 1000049 bytes, the file has 49': written('x.gguf', arrayGguf(1e6).subarray(0, 49)),
    ...Object.fromEntries(
      ['config.json', 'chat_template.jinja', 'README.md', 'model.safetensors'].map((name) => [
        `${name} must be in its folder, got a link to /etc/hosts`,
        linked(name, '/etc/hosts'),
      ]),
    ),
    'chat_template.jinja must be in its folder, got a link to /dev/zero': linked('chat_template.jinja', '/dev/zero'),
    'chat_template.jinja must be in its folder, got a link to /...': linkedBlobs,
    "the source's tokenizer must be one that the server can load, got: it takes more than 1.5 s...": withTokenizer({
      pre_tokenizer: { type: 'Split', pattern: { Regex: '^(a+)+$' }, behavior: 'Isolated', invert: false },
    }),
    'must have at most 4194304 values...': ['config.json', 'tokenizer.json'].map((name) =>
      withFile(name, `{"x": [${'0,'.repeat(2 ** 22)}0]}`),
    ),
    'its header must have at most 1048576 values...': withHeader(`{"x": [${'[],'.repeat(2 ** 19)}0]}`),
    'must name files of its folder, got "../other.safetensors"': withIndex(
      '{"weight_map": {"x": "../other.safetensors"}}',
    ),
    'it is not a regular file': ['config.json', 'tokenizer.json', 'model.safetensors'].map((name) =>
      modified(folder(), (source) => {
        rmSync(path.join(source, name));
        execFileSync('mkfifo', [path.join(source, name)]);
      }),
    ),
    'context must be at most 2097152, got 16777216': folder({ max_position_embeddings: 2 ** 24 }),
  }),
);

void t.test('architectures, tensors and numbers that a conversion can not take are rejected', (t) =>
  rejects(t, {
    'architecture must be one of LlamaForCausalLM, ..., got DeepseekV3ForCausalLM': folder({
      architectures: ['DeepseekV3ForCausalLM'],
    }),
    'must be one of llama, ..., got "mamba"': file({ 'general.architecture': 'mamba' }),
    'ropeTheta must be above 0, got NaN': file({ 'llama.rope.freq_base': NaN }),
    'ropeTheta must be above 0, got 0': file({ 'llama.rope.freq_base': 0 }),
    'normEps must be above 0, got -1': file({ 'llama.attention.layer_norm_rms_epsilon': -1 }),
    'factor must be above 0, got 0': folder({ rope_scaling: { ...LLAMA3, factor: 0 } }),
    'originalContext must be an integer, got 8192.5': folder({
      rope_scaling: { ...LLAMA3, original_max_position_embeddings: 8192.5 },
    }),
    'layers.1.mlp.up_proj...': folder(without('model.layers.1.mlp.up_proj.weight')),
    'tiny.gguf has no tensor blk.0.attn_k.weight': file(without('model.layers.0.self_attn.k_proj.weight')),
    'model.norm.weight must have shape [64], got [32]': folder(having('model.norm.weight', [32])),
    'down_proj.weight holds NaN at index 5': folder((w) =>
      w.get('model.layers.2.mlp.down_proj.weight')?.data.fill(NaN, 5, 6),
    ),
    'blk.2.ffn_down.weight holds Infinity at index 7': file((w) =>
      w.get('model.layers.2.mlp.down_proj.weight')?.data.fill(Infinity, 7, 8),
    ),
    'no tensor blk.3.attn_norm.weight': file({ 'llama.block_count': 2 ** 52 }),
  }),
);

void t.test('unsupported features are rejected', (t) =>
  rejects(t, {
    'rope_scaling.rope_type must be none, linear, llama3, yarn or longrope, got "dynamic"': folder({
      rope_scaling: { rope_type: 'dynamic', factor: 2 },
    }),
    'llama.rope.scaling.type must be none, linear or yarn, or longrope with its factors, got "longrope"': file({
      ...{ 'llama.rope.scaling.type': 'longrope', 'llama.rope.scaling.factor': 2 },
    }),
    'biases only of attention, in every layer), got blk.1.ffn_up.bias': file(having('blk.1.ffn_up.bias', [SHAPE.ffn])),
    'got blk.2.attn_output.bias': file(having('blk.2.attn_output.bias', [SHAPE.hidden])),
    'got model.layers.0.self_attn.q_proj.bias': folder(having('model.layers.0.self_attn.q_proj.bias', [SHAPE.hidden])),
    'got model.layers.0.self_attn.q_norm.weight': folder(
      having('model.layers.0.self_attn.q_norm.weight', [SHAPE.headDim]),
    ),
    'smollm, refact, gpt-2, llama-bpe, ..., got deepseek-llm': file({ 'tokenizer.ggml.pre': 'deepseek-llm' }),
    'smollm, refact, gpt-2, llama-bpe, ..., got nothing': file({ 'tokenizer.ggml.pre': undefined }),
    'model must be BPE or Unigram, got WordPiece': withTokenizer({ model: { type: 'WordPiece', vocab: {} } }),
    'byte_fallback must be false for Unigram, got true': withTokenizer({
      model: { type: 'Unigram', vocab: [['a', -1]], byte_fallback: true },
    }),
    "the source's tokenizer must be one that the server can load, got: ...Unknown PreTokenizer...": [
      withTokenizer({ pre_tokenizer: { type: 'UnicodeScripts' } }),
      withTokenizer({ pre_tokenizer: { type: 'CharDelimiterSplit', delimiter: '-' } }),
    ],
    "the source's tokenizer must be one that the server can load, got: ...Invalid regular...": withTokenizer({
      pre_tokenizer: { type: 'Split', pattern: { Regex: '(?i)a|b' }, behavior: 'Isolated', invert: false },
    }),
    "the source's chat template must be one that the server can load, got: Unknown statement type: include": withFile(
      'chat_template.jinja',
      "{% include 'other' %}",
    ),
  }),
);

// Models that the graphs can not follow, looped ones, and models with a prompt exit: one error names the field.

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
