/** Invalid sources of a conversion: each gives one clear error and leaves no output. */
import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { packageRoot } from '../../src/config.js';
import { gguf, ggufMetadata, SHAPE, tinyWeights, tokenizerJson } from './tiny.js';
import { edit, file, folder, rejects, withTensor, write, type Case } from './rejected.js';
import { writeGguf } from './conversion.js';

const bytes = () => gguf(tinyWeights(1), ggufMetadata());

const LLAMA3 = {
  ...{ rope_type: 'llama3', factor: 8, low_freq_factor: 1 },
  ...{ high_freq_factor: 4, original_max_position_embeddings: 16 },
};

/** The start of a GGUF file. @param rest integers after it, each with its number of bytes */
function damagedGguf(
  tensors: number,
  keys: number,
  rest: readonly (readonly [value: number, bytes: 1 | 4 | 8])[],
): Buffer {
  const head = [
    [0x46554747, 4],
    [3, 4],
    [tensors, 8],
    [keys, 8],
  ] as const;
  return Buffer.concat(
    [...head, ...rest].map(([value, bytes]) => {
      const part = Buffer.alloc(8);
      part.writeBigUInt64LE(BigInt(value));
      return part.subarray(0, bytes);
    }),
  );
}

/** A key with an array of one array, and so on. */
function nestedGguf(depth: number): Buffer {
  const arrays = Array.from(
    { length: depth },
    () =>
      [
        [9, 4],
        [1, 8],
      ] as const,
  ).flat();
  return damagedGguf(0, 1, [[1, 8], [0x6b, 1], [9, 4], ...arrays, [0, 4], [0, 8]]);
}

/** A tensor named t that claims the most dimensions, and only some of them are in the file. */
function manyDimensions(): Buffer {
  const head = damagedGguf(1, 0, [
    [1, 8],
    [0x74, 1],
    [0xffffffff, 4],
  ]);
  return Buffer.concat([head, Buffer.alloc(8 * 1000)]);
}

void t.test('damaged files and unknown formats are rejected', (t) =>
  rejects(t, [
    ['a missing source', 'bad_source', /does not exist/, (dir) => path.join(dir, 'nothing')],
    [
      'a GGUF truncated in the weights',
      'truncated_file',
      /is truncated/,
      (dir) => write(dir, 'x.gguf', bytes().subarray(0, -5000)),
    ],
    [
      'a GGUF truncated in the header',
      'truncated_file',
      /is truncated/,
      (dir) => write(dir, 'x.gguf', bytes().subarray(0, 3000)),
    ],
    [
      'a part of a split GGUF with another name',
      'bad_source',
      /must have a name like model-00001-of-00003\.gguf, since it is part 2 of 3/,
      (dir) => file(dir, { 'split.no': 1, 'split.count': 3 }),
    ],
    ...[0, 0.5, 'x'].map((alignment): Case => [
      `a GGUF aligned to ${alignment}`,
      'bad_source',
      /tiny\.gguf: general\.alignment must be a positive integer, got /,
      (dir) => file(dir, { 'general.alignment': alignment }),
    ]),
    ...['null', '[]', '{"x": null}', '{"x": {"dtype": "F32", "shape": [1], "data_offsets": [null, 4]}}'].map(
      (header): Case => [
        `a safetensors header ${header}`,
        'bad_source',
        /model\.safetensors is not a safetensors file: its (header is not an object|entry x must have dtype)/,
        (dir) => {
          const length = Buffer.alloc(8);
          length.writeBigUInt64LE(BigInt(header.length));
          return path.dirname(write(folder(dir), 'model.safetensors', Buffer.concat([length, Buffer.from(header)])));
        },
      ],
    ),
    ...['{"weight_map": {"x": 5}}', '{"weight_map": [null]}', '{}'].map((index): Case => [
      `an index ${index}`,
      'bad_source',
      /model\.safetensors\.index\.json must have a weight_map of file names by tensor/,
      (dir) => path.dirname(write(folder(dir), 'model.safetensors.index.json', index)),
    ]),
    [
      'exit blocks that are a folder',
      'bad_source',
      /^cannot read \S+: it is a folder$/,
      folder,
      { exitBlocks: packageRoot },
    ],
    [
      'a file in another format',
      'bad_source',
      /is not a GGUF file/,
      (dir) => write(dir, 'x.gguf', 'something else entirely'),
    ],
    [
      'a GGML type without a decoder',
      'unknown_dtype',
      /output_norm\.weight has ggml type 16/,
      (dir) => write(dir, 'x.gguf', gguf(tinyWeights(1), ggufMetadata(), false, { 'output_norm.weight': 16 })),
    ],
    [
      'a truncated safetensors file',
      'truncated_file',
      /is truncated/,
      (dir) => {
        const source = folder(dir);
        const name = path.join(source, 'model.safetensors');
        writeFileSync(name, readFileSync(name).subarray(0, -100));
        return source;
      },
    ],
    [
      'an unknown dtype',
      'unknown_dtype',
      /has dtype F64/,
      (dir) => {
        const source = folder(dir);
        const name = path.join(source, 'model.safetensors');
        writeFileSync(name, readFileSync(name).toString('latin1').replace('"dtype":"F32"', '"dtype":"F64"'), 'latin1');
        return source;
      },
    ],
    [
      'a tokenizer.json that is not JSON',
      'bad_source',
      /cannot read .*tokenizer\.json: /,
      (dir) => path.dirname(write(folder(dir), 'tokenizer.json', '{"model": ')),
    ],
    [
      'a tokenizer.json without a vocabulary',
      'bad_source',
      /tokenizer\.json: \/model must have required properties vocab/,
      (dir) => path.dirname(write(folder(dir), 'tokenizer.json', '{"model": {}}')),
    ],
    [
      'a rope scaling that is a text',
      'bad_source',
      /rope_scaling must be an object or null, got "linear"/,
      (dir) => folder(dir, undefined, { rope_scaling: 'linear' }),
    ],
    [
      'token types that are not a list',
      'bad_source',
      /tokenizer\.ggml\.token_type must be a list, got 5/,
      (dir) => file(dir, { 'tokenizer.ggml.token_type': 5 }),
    ],
    [
      'arrays of arrays in a GGUF',
      'bad_source',
      /holds an array of arrays/,
      (dir) => write(dir, 'x.gguf', nestedGguf(50_000)),
    ],
    [
      'a tensor with too many dimensions',
      'bad_source',
      /tensor t must have at most 4 dimensions, got 4294967295/,
      (dir) => write(dir, 'x.gguf', manyDimensions()),
    ],
    [
      'a token id beyond every table',
      'bad_source',
      /\/added_tokens\/0\/id must be <= 16777216/,
      (dir) => {
        const source = folder(dir);
        const added_tokens = [{ id: 4_294_967_290, content: '<pad>', special: true }];
        write(source, 'tokenizer.json', JSON.stringify(tokenizerJson({ added_tokens })));
        return source;
      },
    ],
  ]),
);

/** A GGUF file of a terabyte that takes no space on the disk: a key k with an array of so many bytes. */
function sparse(dir: string, values: number): string {
  const type = 0;
  const head = damagedGguf(0, 1, [
    [1, 8],
    [0x6b, 1],
    [9, 4],
    [type, 4],
    [values, 8],
  ]);
  const name = write(dir, 'sparse.gguf', head);
  truncateSync(name, 2 ** 40);
  return name;
}

/** A folder with a file that is a link. */
function linked(dir: string, name: string, target: string): string {
  const source = folder(dir);
  rmSync(path.join(source, name), { force: true });
  symlinkSync(target, path.join(source, name));
  return source;
}

void t.test('a folder can neither name files outside of it, nor hang or fill the conversion', (t) =>
  rejects(t, [
    [
      'an array of a sparse GGUF',
      'bad_source',
      /the header must have at most 8388608 values, got 100000000001/,
      (dir) => sparse(dir, 1e11),
    ],
    [
      'a string of a sparse GGUF',
      'bad_source',
      /the header must have at most 268435456 bytes, got 1000000000/,
      (dir) => {
        const name = write(dir, 'sparse.gguf', damagedGguf(0, 1, [[1e9 - 32, 8]]));
        truncateSync(name, 2 ** 40);
        return name;
      },
    ],
    [
      'an array that is longer than the file',
      'truncated_file',
      /its header needs 1000049 bytes, the file has 49/,
      (dir) =>
        write(
          dir,
          'x.gguf',
          damagedGguf(0, 1, [
            [1, 8],
            [0x6b, 1],
            [9, 4],
            [0, 4],
            [1e6, 8],
          ]).subarray(0, 49),
        ),
    ],
    ...['config.json', 'chat_template.jinja', 'README.md', 'model.safetensors'].map((name): Case => [
      `${name} is a link to a file of the machine`,
      'bad_source',
      new RegExp(`${name} must be in its folder, got a link to /etc/hosts`),
      (dir) => linked(dir, name, '/etc/hosts'),
    ]),
    [
      'a chat template without end',
      'bad_source',
      /chat_template\.jinja must be in its folder, got a link to \/dev\/zero/,
      (dir) => linked(dir, 'chat_template.jinja', '/dev/zero'),
    ],
    [
      'blobs that are a link',
      'bad_source',
      /chat_template\.jinja must be in its folder, got a link to /,
      (dir) => {
        const snapshot = path.join(dir, 'snapshots', 'main');
        cpSync(folder(dir), snapshot, { recursive: true });
        symlinkSync('/etc', path.join(dir, 'blobs'));
        symlinkSync('../../blobs/hosts', path.join(snapshot, 'chat_template.jinja'));
        return snapshot;
      },
    ],
    [
      'a tokenizer whose expression takes an exponential time',
      'unsupported_feature',
      /the source's tokenizer must be one that the server can load, got: it takes more than 3 s/,
      (dir) => {
        const split = { type: 'Split', pattern: { Regex: '^(a+)+$' }, behavior: 'Isolated', invert: false };
        const source = folder(dir);
        write(source, 'tokenizer.json', JSON.stringify(tokenizerJson({ pre_tokenizer: split })));
        return source;
      },
    ],
    [
      'weights outside of the folder',
      'bad_source',
      /must name files of its folder, got "\.\.\/other\.safetensors"/,
      (dir) =>
        path.dirname(
          write(folder(dir), 'model.safetensors.index.json', '{"weight_map": {"x": "../other.safetensors"}}'),
        ),
    ],
    ...['config.json', 'tokenizer.json', 'model.safetensors'].map((name): Case => [
      `${name} is a FIFO`,
      'bad_source',
      /it is not a regular file/,
      (dir) => {
        const source = folder(dir);
        rmSync(path.join(source, name));
        execFileSync('mkfifo', [path.join(source, name)]);
        return source;
      },
    ]),
    [
      'more positions than any model has',
      'unsupported_architecture',
      /context must be at most 2097152, got 16777216/,
      (dir) => folder(dir, undefined, { max_position_embeddings: 2 ** 24 }),
    ],
  ]),
);

void t.test('unsupported architectures are rejected', (t) =>
  rejects(t, [
    [
      'another architecture in a folder',
      'unsupported_architecture',
      /architecture must be one of LlamaForCausalLM, .*, got DeepseekV3ForCausalLM/,
      (dir) => folder(dir, undefined, { architectures: ['DeepseekV3ForCausalLM'] }),
    ],
    [
      'another architecture in a GGUF',
      'unsupported_architecture',
      /must be one of llama, .*, got "mamba"/,
      (dir) => file(dir, { 'general.architecture': 'mamba' }),
    ],
    ...(
      [
        ['llama.rope.freq_base', NaN, 'ropeTheta'],
        ['llama.rope.freq_base', 0, 'ropeTheta'],
        ['llama.attention.layer_norm_rms_epsilon', -1, 'normEps'],
      ] as const
    ).map(([key, value, name]): Case => [
      `${key} ${value}`,
      'unsupported_architecture',
      new RegExp(`${name} must be above 0, got ${value}`),
      (dir) => file(dir, { [key]: value }),
    ]),
    [
      'a rope scaling that divides by 0',
      'unsupported_architecture',
      /factor must be above 0, got 0/,
      (dir) => folder(dir, undefined, { rope_scaling: { ...LLAMA3, factor: 0 } }),
    ],
    [
      'a context beyond every table',
      'unsupported_architecture',
      /context must be at most 2097152, got 1000000000000/,
      (dir) => folder(dir, undefined, { max_position_embeddings: 1e12 }),
    ],
    [
      'a rope scaling of part of a position',
      'unsupported_architecture',
      /originalContext must be an integer, got 8192\.5/,
      (dir) => folder(dir, undefined, { rope_scaling: { ...LLAMA3, original_max_position_embeddings: 8192.5 } }),
    ],
  ]),
);

void t.test('missing, misshapen and infinite tensors are rejected', (t) =>
  rejects(t, [
    [
      'a missing tensor in a folder',
      'missing_tensor',
      /layers\.1\.mlp\.up_proj/,
      (dir) =>
        folder(
          dir,
          edit((w) => w.delete('model.layers.1.mlp.up_proj.weight')),
        ),
    ],
    [
      'a missing tensor in a GGUF',
      'missing_tensor',
      /tiny\.gguf has no tensor blk\.0\.attn_k\.weight/,
      (dir) =>
        writeGguf(
          dir,
          edit((w) => w.delete('model.layers.0.self_attn.k_proj.weight')),
        ),
    ],
    [
      'a wrong shape',
      'wrong_shape',
      /model\.norm\.weight must have shape \[64\], got \[32\]/,
      withTensor(folder, 'model.norm.weight', [32]),
    ],
    [
      'NaN',
      'not_finite',
      /down_proj\.weight holds NaN at index 5/,
      (dir) =>
        folder(
          dir,
          edit((w) => w.get('model.layers.2.mlp.down_proj.weight')?.data.fill(NaN, 5, 6)),
        ),
    ],
    [
      'infinity in a GGUF',
      'not_finite',
      /blk\.2\.ffn_down\.weight holds Infinity at index 7/,
      (dir) =>
        writeGguf(
          dir,
          edit((w) => w.get('model.layers.2.mlp.down_proj.weight')?.data.fill(Infinity, 7, 8)),
        ),
    ],
    [
      'an impossible number of layers',
      'missing_tensor',
      /no tensor blk\.3\.attn_norm\.weight/,
      (dir) => file(dir, { 'llama.block_count': 2 ** 52 }),
      { exits: [2 ** 52] },
    ],
  ]),
);

void t.test('unsupported features are rejected', (t) =>
  rejects(t, [
    [
      'rope scaling of another kind',
      'unsupported_feature',
      /rope_scaling\.rope_type must be none, linear, llama3, yarn or longrope, got "dynamic"/,
      (dir) => folder(dir, undefined, { rope_scaling: { rope_type: 'dynamic', factor: 2 } }),
    ],
    [
      'rope scaling of another kind in a GGUF',
      'unsupported_feature',
      /llama\.rope\.scaling\.type must be none, linear or yarn, or longrope with its factors, got "longrope"/,
      (dir) => file(dir, { 'llama.rope.scaling.type': 'longrope', 'llama.rope.scaling.factor': 2 }),
    ],
    [
      'a bias of the FFN in a GGUF',
      'unsupported_feature',
      /biases only of attention, in every layer\), got blk\.1\.ffn_up\.bias/,
      withTensor(writeGguf, 'blk.1.ffn_up.bias', [SHAPE.ffn]),
    ],
    [
      'a bias of one layer in a GGUF',
      'unsupported_feature',
      /got blk\.2\.attn_output\.bias/,
      withTensor(writeGguf, 'blk.2.attn_output.bias', [SHAPE.hidden]),
    ],
    [
      'biases against the config',
      'unsupported_feature',
      /got model\.layers\.0\.self_attn\.q_proj\.bias/,
      withTensor(folder, 'model.layers.0.self_attn.q_proj.bias', [SHAPE.hidden]),
    ],
    [
      'a tensor of another architecture in a folder',
      'unsupported_feature',
      /got model\.layers\.0\.self_attn\.q_norm\.weight/,
      withTensor(folder, 'model.layers.0.self_attn.q_norm.weight', [SHAPE.headDim]),
    ],
    [
      'an unknown pre-tokenizer',
      'unsupported_feature',
      /smollm, refact, gpt-2, llama-bpe, .*, got deepseek-llm/,
      (dir) => file(dir, { 'tokenizer.ggml.pre': 'deepseek-llm' }),
    ],
    [
      'a tokenizer of words',
      'unsupported_feature',
      /model must be BPE or Unigram, got WordPiece/,
      (dir) => path.dirname(write(folder(dir), 'tokenizer.json', '{"model": {"type": "WordPiece", "vocab": {}}}')),
    ],
    [
      'Unigram with byte fallback, which the library does not support',
      'unsupported_feature',
      /byte_fallback must be false for Unigram, got true/,
      (dir) => {
        const json = { model: { type: 'Unigram', vocab: [['a', -1]], byte_fallback: true } };
        return path.dirname(write(folder(dir), 'tokenizer.json', JSON.stringify(json)));
      },
    ],
    [
      'a GGUF without the name of its pre-tokenizer',
      'unsupported_feature',
      /smollm, refact, gpt-2, llama-bpe, .*, got nothing/,
      (dir) => {
        const metadata = Object.entries(ggufMetadata()).filter(([key]) => key !== 'tokenizer.ggml.pre');
        return writeGguf(dir, tinyWeights(1), Object.fromEntries(metadata));
      },
    ],
    ...[
      { type: 'UnicodeScripts' },
      { type: 'CharDelimiterSplit', delimiter: '-' },
      { type: 'Split', pattern: { Regex: '(?i)a|b' }, behavior: 'Isolated', invert: false },
    ].map((step): Case => [
      `a pre-tokenizer that the library can't build: ${step.type}`,
      'unsupported_feature',
      /the source's tokenizer must be one that the server can load, got: .*(Unknown PreTokenizer|Invalid regular)/,
      (dir) =>
        path.dirname(write(folder(dir), 'tokenizer.json', JSON.stringify(tokenizerJson({ pre_tokenizer: step })))),
    ]),
    [
      "a chat template that the library can't read",
      'unsupported_feature',
      /the source's chat template must be one that the server can load, got: Unknown statement type: include/,
      (dir) => path.dirname(write(folder(dir), 'chat_template.jinja', "{% include 'other' %}")),
    ],
  ]),
);
