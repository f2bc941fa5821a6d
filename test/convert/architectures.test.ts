/** Each architecture from both formats: logits at every way through the engine equal those of transformers. */
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import t, { type Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import type { Executor } from '../../src/engine/execution/executor.js';
import type { Slot } from '../../src/engine/scheduler/kv/units.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { advance, makeExecutor } from '../engine/helper.js';
import { writeRanges } from './tiny.js';
import { WAYS as UNREAD_WAYS, type Way, waysOf, worstOf } from './ways.js';
import { GOLDEN_MODELS, goldenModel, writeGoldenFolder, writeGoldenGguf, type GoldenModel } from './golden-model.js';

/** Largest difference of a logit from transformers in fp32. */
const BOUND = 1e-3;

/** Every channel of the keys and values of the golden models stays below this. */
const KV_RANGE = 7;

/** Layers of the exits: Gemma 4 has full depth alone. */
function exitsOf({ config }: GoldenModel): number[] {
  const layers = Number(config.num_hidden_layers);
  return config.model_type === 'gemma4_text' ? [layers] : [2, layers];
}

function inChunks(executor: Executor, slot: Slot, exit: number, end: number, chunk: number): void {
  const { needed } = executor.exit(exit);
  while (slot.least(needed) < end) advance(executor, slot, exit, Math.min(end, slot.least(needed) + chunk));
}

const WAYS: Readonly<Record<string, Way>> = {
  'chunks of 7': (executor, slot, exit, end) => {
    inChunks(executor, slot, exit, end, 7);
  },
  'catch-up': (executor, slot, exit, end) => {
    inChunks(executor, slot, exit, Math.floor(end / 3), 128);
    inChunks(executor, slot, 0, end, 9);
    inChunks(executor, slot, exit, end, 20);
  },
  ...waysOf(inChunks),
};

function check(t: Test, executor: Executor, { prompts }: GoldenModel, bound = BOUND): void {
  // Behind a prompt exit, chunks whose states nothing reads make keys and values alone.
  const ways = executor.units.stages.some(({ keys }) => keys !== undefined) ? UNREAD_WAYS : WAYS;
  for (const [name, way] of Object.entries(ways))
    for (const { ids, positions } of prompts) {
      const ends = positions.map(({ at }) => at);
      const worst = worstOf(executor, executor.units.exits.length - 1, ids, ends, way, (found, i) => {
        const { ids: top = [], logits: expected = [] } = positions[i] ?? {};
        return Math.max(...top.map((id, rank) => Math.abs((found[id] ?? NaN) - (expected[rank] ?? NaN))));
      });
      t.ok(worst < bound, `${name}, ${ids.length} tokens: ${worst}`);
    }
}

/** The graphs and weights of a converted folder, with their SHA-256. */
function computedFiles(dir: string): readonly { readonly path: string; readonly sha256: string }[] {
  const { files } = loadManifest(dir);
  return files
    .filter(({ path: file }) => /\.(onnx|bin)$/.test(file))
    .map(({ path: file, sha256 }) => ({ path: file, sha256 }));
}

for (const name of GOLDEN_MODELS)
  void t.test(name, async (t) => {
    const dir = t.testdir();
    let first: ReturnType<typeof computedFiles> | null = null;
    const model = goldenModel(name);
    const sources = [['folder', writeGoldenFolder(path.join(dir, 'hf'), model)]];
    if (model.gguf !== null) sources.push(['GGUF', writeGoldenGguf(path.join(dir, 'model.gguf'), model)]);
    for (const [format = '', source = ''] of sources)
      await t.test(format, async (t) => {
        const out = path.join(dir, format);
        const { context } = model;
        await convert({
          ...{ source, out, exits: exitsOf(model), kernels: ['fp32'], compress: false, force: false },
          ...(context === undefined ? {} : { context }),
        });
        const computed = computedFiles(out);
        // The same graphs and weights have the same logits.
        if (isDeepStrictEqual(first, computed)) t.pass('graphs and weights are those of the folder');
        else
          for (const promptExit of model.config.num_kv_shared_layers ? [true, false] : [true])
            check(t, await makeExecutor(t, { modelDir: out, promptExit }), model);
        first ??= computed;
      });
  });

/** Bounds of rounding, on logits of 4: of weights and activations, and of a KV cache of bytes with a wide range. */
const ROUNDED = { w8a8: 0.4, int4: 1.5, bytes: 1 } as const;

for (const name of ['gemma2', 'gemma3', 'gemma4', 'granite', 'ministral3', 'olmo2', 'phi3-narrow', 'qwen3', 'smollm3'])
  void t.test(`${name} in low precision`, async (t) => {
    const dir = t.testdir();
    const golden = goldenModel(name);
    // Rounding leads a greedy text of random weights astray.
    const prompts = golden.prompts.map(({ ids, positions }) => ({ ids, positions: positions.slice(0, 10) }));
    const model = { ...golden, prompts };
    const layers = Number(model.config.num_hidden_layers);
    const source = writeGoldenFolder(path.join(dir, 'hf'), model);
    const base = { source, exits: exitsOf(model), compress: false, force: false };
    for (const kernel of ['w8a8', 'int4'] as const) {
      const out = path.join(dir, kernel);
      await convert({ ...base, out, kernels: [kernel] });
      // Scores without a scale make attention of random weights sharp, which magnifies rounding.
      const bound = name === 'gemma4' && kernel === 'int4' ? 2.5 : ROUNDED[kernel];
      check(t, await makeExecutor(t, { modelDir: out }), model, bound);
    }
    // Layers that share keys have no measured range of them.
    if (name === 'gemma4') return;
    const out = path.join(dir, 'bytes');
    const { kvHeads, headDim } = loadManifest(path.join(dir, 'int4')).architecture;
    const calibration = writeRanges(path.join(dir, 'ranges.safetensors'), layers, kvHeads * headDim, KV_RANGE);
    await convert({ ...base, out, kernels: ['fp32'], kv: 'int8', calibration });
    check(t, await makeExecutor(t, { modelDir: out }), model, ROUNDED.bytes);
  });
