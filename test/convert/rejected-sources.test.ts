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
    'tiny.gguf: general.alignment must be a positive integer, got 0': file({ 'general.alignment': 0 }),
    'model.safetensors is not a safetensors file: its header must be an object, got ...': withHeader('[]'),
    'model.safetensors is not a safetensors file: its entry x must have dtype...': withHeader('{"x": null}'),
    'model.safetensors.index.json must have a weight_map of file names by tensor': withIndex('{"weight_map": [null]}'),
    'is not a GGUF file': written('x.gguf', 'something else entirely'),
    'output_norm.weight has ggml type 16...': written(
      'x.gguf',
      gguf(tinyWeights(1), ggufMetadata(), false, { 'output_norm.weight': 16 }),
    ),
    'has dtype F64...': withBytes((bytes) => Buffer.from(bytes.toString('latin1').replace('"F32"', '"F64"'), 'latin1')),
    'tokenizer.json must be JSON: ...': withFile('tokenizer.json', '{"model": '),
    'tokenizer.json: /model must have required properties vocab...': withFile('tokenizer.json', '{"model": {}}'),
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
    'originalContext must be an integer, got 8192.5': folder({
      rope_scaling: {
        rope_type: 'llama3',
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 8192.5,
      },
    }),
    'tiny.gguf has no tensor blk.0.attn_k.weight': file(without('model.layers.0.self_attn.k_proj.weight')),
    'model.norm.weight must have shape [64], got [32]': folder(having('model.norm.weight', [32])),
    'down_proj.weight holds NaN at index 5': folder((w) =>
      w.get('model.layers.2.mlp.down_proj.weight')?.data.fill(NaN, 5, 6),
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
    'smollm, refact, gpt-2, llama-bpe, ..., got deepseek-llm': file({ 'tokenizer.ggml.pre': 'deepseek-llm' }),
    'model must be BPE or Unigram, got WordPiece': withTokenizer({ model: { type: 'WordPiece', vocab: {} } }),
    'byte_fallback must be false for Unigram, got true': withTokenizer({
      model: { type: 'Unigram', vocab: [['a', -1]], byte_fallback: true },
    }),
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

void t.test('models that the graphs cannot follow are rejected by name', (t) =>
  rejects(t, {
    'num_local_experts must be 0 (mixture-of-experts models are not supported), got 8': of('granite4', {
      num_local_experts: 8,
    }),
    'layer_types must be full_attention or sliding_attention for each layer, got ["mamba"...': of('granite4', {
      layer_types: ['mamba', 'attention', 'mamba', 'mamba'],
    }),
    'enable_moe_block must be false (mixture-of-experts models are not supported), got true': of('gemma4', {
      enable_moe_block: true,
    }),
    'layer 1 must have a layer of its kind in front of the sharing ones': of('gemma4', { num_kv_shared_layers: 6 }),
    'use_bidirectional_attention must be false, got true': of('gemma3', { use_bidirectional_attention: true }),
    'attn_logit_softcapping must be absent, got 50': of('gemma3', { attn_logit_softcapping: 50 }),
    'hidden_act must be silu or gelu_pytorch_tanh, got "relu2"': of('qwen2', { hidden_act: 'relu2' }),
    'rotary factors must be 8, one for each pair, got 2': of('phi4-long', {
      rope_parameters: {
        rope_type: 'longrope',
        rope_theta: 1e4,
        partial_rotary_factor: 0.5,
        short_factor: [1, 1],
        long_factor: [1, 2],
      },
    }),
    'rotary width must be an even number up to the head size (32), got 23': of('phi3', {
      rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.72 },
    }),
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
    'config.json: total_ut_steps must be an integer from 1 to 64, got ...': [0, 1e9].map((loops) =>
      looped({ total_ut_steps: loops }),
    ),
    'has no tensor model.early_exit_gate.weight': looped(without('model.early_exit_gate.weight')),
    'tensor model.early_exit_gate.weight must have shape [1, 64], got [64]': looped(
      having('model.early_exit_gate.weight', [64]),
    ),
    'tensors must be those of the architecture ..., got model.layers.0.input_layernorm_2.weight': looped({
      architectures: ['LlamaForCausalLM'],
    }),
    'metadata ouro.num_loops must be a number, got nothing': file(ggufMetadata('ouro')),
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
      ...[[2, 4], [0]].map((exits) => ({ exits })),
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

const QUERY = 'model.layers.3.self_attn.q_proj_swiftkv.weight';

void t.test('models with a faulty prompt exit are rejected', (t) =>
  rejects(t, {
    'config.json: num_key_value_layers must be an integer from 1 to 4, got ...': [0, 5].map((layers) =>
      prompted({ num_key_value_layers: layers }),
    ),
    'config.json: num_key_value_layers must be a number, got nothing': prompted({ num_key_value_layers: undefined }),
    'config.json: kv_sharing_map must be absent or empty ..., got {"3":1}': prompted({ kv_sharing_map: { 3: 1 } }),
    'quantization_config must be absent (FP8 is not read; ...), got {"quant_method":"fbgemm_fp8"}': prompted({
      quantization_config: { quant_method: 'fbgemm_fp8' },
    }),
    'no tensor for model.layers.3.self_attn.q_proj.weight behind its prompt exit...': prompted(without(QUERY)),
    'tensors must be those of the architecture ..., got model.layers.3.self_attn.k_proj.weight': prompted(
      having('model.layers.3.self_attn.k_proj_swiftkv.weight', [32, 64]),
    ),
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

void t.test('options that norms of values do not allow are rejected', (t) =>
  rejectsOptions(t, of('gemma4-dense', {}), {
    '--calibration must be absent for a model with norms of values, got c.safetensors': {
      ...{ kernels: ['int4'], calibration: 'c.safetensors' },
    },
  }),
);

void t.test('options that inputs of layers and shared keys do not allow are rejected', (t) =>
  rejectsOptions(t, of('gemma4', {}), {
    '--exits must be the last layer, 7, alone ..., got 2,7': { exits: [2, 7] },
    '--kv must be float ..., got int8': { kv: 'int8' },
    '--calibration must be absent ..., got c.safetensors': { kernels: ['w8a8'], calibration: 'c.safetensors' },
    '--compress must be absent ..., got true': { compress: true },
  }),
);
