/** Sources of other architectures: older forms of config.json, text parts of models with images. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { Architecture } from '../../src/engine/model/architecture.js';
import { convert } from '../../src/convert/convert.js';
import { OPTIONS, run, random, safetensors, tinyWeights, weight, writeFolder, type Weights } from './tiny.js';
import { goldenModel, goldenWeights, writeGoldenFolder } from './golden-model.js';

type Changes = Record<string, unknown>;

/** Converts a golden model with a changed config; undefined removes a field. */
async function architectureOf(t: Test, name: string, changes: Changes = {}): Promise<Architecture> {
  const dir = t.testdir();
  const model = goldenModel(name);
  const source = writeGoldenFolder(path.join(dir, 'hf'), model, changes);
  return (await run(dir, source, { exits: [Number(model.config.num_hidden_layers)] })).architecture;
}

const NEW = { rope_parameters: undefined, layer_types: undefined };

for (const [name, older] of [
  ['qwen3', { rope_theta: 1e4, rope_scaling: { type: 'yarn', factor: 4, original_max_position_embeddings: 32 } }],
  ['smollm3', { rope_theta: 2e6, no_rope_layers: null, rope_scaling: null }],
  ['smollm3', {}],
  ['mistral', { rope_theta: 1e4 }],
  [
    'gemma3',
    {
      rope_theta: 1e6,
      rope_local_base_freq: 1e4,
      rope_scaling: { rope_type: 'linear', factor: 8 },
      sliding_window_pattern: 6,
      hidden_activation: undefined,
    },
  ],
  [
    'phi4-long',
    {
      rope_theta: 1e4,
      partial_rotary_factor: 0.5,
      rope_scaling: {
        type: 'su',
        short_factor: Array.from({ length: 8 }, (_, i) => 1 + i / 16),
        long_factor: Array.from({ length: 8 }, (_, i) => 1 + i / 2),
      },
    },
  ],
] as const)
  void t.test(`${name}: a config of transformers 4 means the same, ${Object.keys(older).join(', ')}`, async (t) => {
    t.strictSame(await architectureOf(t, name, { ...NEW, ...older }), await architectureOf(t, name));
  });

for (const name of ['gemma3', 'gemma4'])
  void t.test(`${name}: the text part of a model with images is read, under both names of its tensors`, async (t) => {
    const plain = await architectureOf(t, name);
    const model = goldenModel(name);
    const [kind = ''] = model.config.architectures as string[];
    const config = { architectures: [kind.replace('Causal', 'Conditional').replace('LM', 'Generation')] };
    const other: Weights = new Map(['vision_tower.x', 'model.embed_vision.x'].map((x) => [x, weight(random(1), [4])]));
    for (const rename of [
      (name: string) => `language_model.${name}`,
      (name: string) => name.replace(/^model\./, 'model.language_model.'),
    ]) {
      const dir = t.testdir();
      const weights = new Map([...goldenWeights(model)].map(([name, value]) => [rename(name), value] as const));
      const source = writeGoldenFolder(path.join(dir, 'hf'), model, {}, new Map([...weights, ...other]));
      writeFileSync(path.join(source, 'config.json'), JSON.stringify({ ...config, text_config: model.config }));
      const warnings: string[] = [];
      const options = { ...OPTIONS, source, out: path.join(dir, 'out'), exits: [7] };
      const { architecture } = await convert(options, undefined, (warning) => warnings.push(warning));
      t.strictSame(architecture, plain);
      t.match(warnings, ['the model serves text, and leaves out vision_tower, embed_vision']);
    }
  });

void t.test('a lower context is a choice of the conversion, a higher one an error', async (t) => {
  const dir = t.testdir();
  const source = writeGoldenFolder(path.join(dir, 'hf'), goldenModel('mistral'));
  t.equal((await run(dir, source, { exits: [4], context: 64 })).architecture.context, 64);
  await t.rejects(run(dir, source, { exits: [4], context: 129, out: path.join(dir, 'x') }), {
    isUsage: true,
    message: "--context must be an integer from 1 to the source's 128, got 129",
  });
});

void t.test('the exits of a Balcony checkpoint are exit blocks', async (t) => {
  const dir = t.testdir();
  const model = goldenModel('llama-linear');
  const weights = goldenWeights(model);
  const balcony = new Map(weights);
  const blocks: Weights = new Map();
  for (const [exit, index] of [1, 2].entries()) {
    for (const [name, value] of weights)
      if (name.startsWith('model.layers.3.')) {
        const part = name.slice('model.layers.3.'.length);
        balcony.set(`model.exit_modules.${exit}.0.${part}`, value);
        blocks.set(`exits.${index}.layers.0.${part}`, value);
      }
    const norm = weight(random(exit), [32]);
    balcony.set(`model.exit_modules.${exit}.1.weight`, norm);
    blocks.set(`exits.${index}.norm.weight`, norm);
  }
  const nested = { architectures: ['NestedLlamaForCausalLM'], exit_layer_indices: [1, 2], exit_decoder_layer: true };
  const folder = (changes: Changes) =>
    writeGoldenFolder(path.join(dir, 'balcony'), model, { ...nested, tie_exit_lm_head: true, ...changes }, balcony);
  const file = path.join(dir, 'blocks.safetensors');
  writeFileSync(file, safetensors(blocks));
  const plain = writeGoldenFolder(path.join(dir, 'plain'), model);
  const expected = await run(dir, plain, { exits: [1, 2, 4], exitBlocks: file, out: path.join(dir, 'a') });
  const options = { kernels: OPTIONS.kernels, compress: false, force: false, name: 'tiny' };
  const manifest = await convert({ ...options, source: folder({}), out: path.join(dir, 'b') });
  const found = manifest.exits.map(({ layer }) => layer);
  t.strictSame(found, [2, 3, 4]);
  t.strictSame(manifest.files, expected.files);
  for (const [changes, message] of [
    [{ tie_exit_lm_head: false }, /tie_exit_lm_head must be true \(all exits share one head\), got false$/],
    [{ exit_mlp: true }, /exit_mlp must be false \(an exit needs a whole layer\), got true$/],
  ] as const)
    await t.rejects(convert({ ...options, source: folder(changes), out: path.join(dir, 'c') }), { message });
});

async function exitsOf(dir: string, source: string, config: object, card?: string): Promise<number[]> {
  const folder = path.join(dir, source);
  mkdirSync(folder, { recursive: true });
  if (card !== undefined) writeFileSync(path.join(folder, 'README.md'), card);
  writeFolder(folder, tinyWeights(1), { config });
  const { exits } = await convert({
    source: folder,
    out: path.join(dir, 'out'),
    kernels: ['fp32'],
    compress: false,
    force: true,
  });
  return exits.map(({ layer }) => layer);
}

void t.test(
  'config, card or repository name LayerSkip, which has exits; any other Llama has full depth alone',
  async (t) => {
    const dir = t.testdir();
    for (const [source, config, card, exits] of [
      ['a', { _name_or_path: 'facebook/layerskip-llama3.2-1B' }, undefined, [1, 2, 3]],
      ['b', {}, '---\nlicense: other\n---\n# LayerSkip Llama3.2 1B\n', [1, 2, 3]],
      ['models--facebook--layerskip-llama3-8B/snapshots/0a', {}, undefined, [1, 2, 3]],
      ['c', {}, '# Llama\n\nNot LayerSkip.', [3]],
    ] as const)
      t.strictSame(await exitsOf(dir, source, config, card), exits, source);
  },
);

void t.test('defaults of the classes apply to fields that a config leaves out', async (t) => {
  const context = { max_position_embeddings: 16384 };
  t.equal((await architectureOf(t, 'mistral', { sliding_window: undefined, ...context })).pattern[0]?.window, 4096);
  t.equal((await architectureOf(t, 'mistral', { sliding_window: null, ...context })).pattern[0]?.window, null);
  t.equal((await architectureOf(t, 'gemma3', { query_pre_attn_scalar: undefined })).attentionScale, 1 / 16);
  t.equal((await architectureOf(t, 'gemma3', { final_logit_softcapping: 30 })).logitSoftcap, 30);
  t.equal((await architectureOf(t, 'gemma2', { attn_logit_softcapping: undefined })).softcap, 50);
});
