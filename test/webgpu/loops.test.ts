/** A looped model on a GPU: one session runs all loops, each over its own pages, and every loop has the CPU's logits. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { goldenLoops, goldenModel, writeGoldenFolder } from '../convert/golden-model.js';
import { advanceTo, logitsBehind, rmsShare, openSlot, decodeRows, rms } from '../engine/helper.js';
import { convertedPair, needsGpu, decode, tokens } from './helper.js';
import { Executor } from '../../src/engine/execution/executor.js';
import { blocksModel } from '../engine/tiny-model.js';
import { promptModel, type PromptModel, writePromptModel } from '../convert/prompt-models.js';
import { inChunks, WAYS } from '../convert/ways.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import type { StageKernel } from '../../src/engine/model/manifest.js';
import { PagedModel } from '../../src/engine/model/paged-model.js';
import { createEnvironment } from '../../src/engine/runtime/environment.js';
import { webgpuDevice } from '../../src/engine/runtime/webgpu.js';

/** Of the largest logit. */
const SHARE = 5e-3;

if (needsGpu())
  void t.test('four loops, in order and caught up later', async (t) => {
    const model = goldenLoops('ouro-4');
    const dir = t.testdir();
    const source = writeGoldenFolder(join(dir, 'source'), model);
    const [cpu, gpu] = await convertedPair(t, source);
    t.equal(new Set(gpu.model.stages.flatMap(({ sessions }) => [...sessions.values()])).size, 1, 'one session');
    for (const { ids } of model.prompts)
      for (const loop of [0, 3, 1, 2]) {
        const [expected, found] = logitsBehind([cpu, gpu], ids, loop, (executor, slot) => {
          for (const exit of [0, loop]) advanceTo(executor, slot, exit, ids.length - 1);
        });
        const error = rmsShare(expected, found);
        t.ok(error <= SHARE, `${ids.length} positions, ${loop + 1} loops: rms ${error} of the largest logit`);
      }
  });

// Prompt exits over pages on a GPU, on every way and over several pages, with the exit on and off. The logits in fp16 are
// those of the CPU's slots in fp32. test/convert has the CPU's beside a reference.

/** Two pages. */
const LENGTH = 70;

function pairOf(t: Test, model: PromptModel, promptExit = true): Promise<readonly [cpu: Executor, gpu: Executor]> {
  const source = writePromptModel(t.testdir(), model, { max_position_embeddings: 256 });
  return convertedPair(t, source, { maxRunning: 6, prefillChunk: 128, promptExit });
}

function equal(t: Test, found: Float32Array, expected: Float32Array, what: string, share = SHARE): void {
  const error = rmsShare(expected, found);
  t.ok(expected.length > 0 && error <= share, `${what}: rms ${error} of the largest logit`);
}

if (needsGpu()) {
  for (const [name, shape] of [
    ['Llama', { layers: 4, exit: 2, group: 1 }],
    ['Qwen2', { layers: 5, exit: 2, group: 3 }],
    ['Qwen3', { layers: 5, exit: 2, group: 2 }],
  ] as const)
    for (const promptExit of [true, false])
      void t.test(`${name}, ${promptExit ? 'on' : 'off'}`, async (t) => {
        const pair = await pairOf(t, promptModel(name, shape), promptExit);
        const ids = tokens(LENGTH, 1);
        for (const [what, way] of Object.entries(WAYS)) {
          const [expected, found] = logitsBehind(pair, ids, 0, (executor, slot) => {
            way(executor, slot, 0, LENGTH - 1);
          });
          equal(t, found, expected, what);
        }
      });

  void t.test('Gemma 4 without windows', async (t) => {
    const model = goldenModel('gemma4');
    const source = writeGoldenFolder(t.testdir(), model, { max_position_embeddings: 256, sliding_window: 256 });
    const pair = await convertedPair(t, source, { maxRunning: 6, prefillChunk: 128 });
    const ids = (model.prompts[1]?.ids ?? []).slice(0, LENGTH);
    for (const [what, way] of Object.entries(WAYS)) {
      const [expected, found] = logitsBehind(pair, ids, 0, (executor, slot) => {
        way(executor, slot, 0, LENGTH - 1);
      });
      // The bound on logits lowers the largest one, and leaves the rounding of the others.
      equal(t, found, expected, what, 3 * SHARE);
    }
  });

  void t.test('rows and chunks share a step', async (t) => {
    const pair = await pairOf(t, promptModel('Llama', { layers: 5, exit: 3, group: 2 }));
    const lengths = [40, 100, 66, 129];
    const [expected, found] = pair.map((executor) => {
      const slots = lengths.map((length, i) => openSlot(executor, tokens(length, i)));
      const chunks = slots.map((slot, i) => [slot, 0, (lengths[i] ?? 0) - 1] as const);
      for (const [slot, exit, end] of chunks.slice(0, 2)) inChunks(executor, slot, exit, end, 128);
      const rows = slots.map((slot) => [slot, 0] as const);
      const logits = decode(executor, rows, chunks.slice(2));
      for (const slot of slots) executor.table.drop(slot);
      return logits;
    }) as [Float32Array[], Float32Array[]];
    for (const [row, logits] of expected.entries())
      equal(t, found[row] ?? new Float32Array(), logits, `row ${row} of ${lengths[row]} positions`);
  });
}

// Batches that are filled up to a bucket, as captured graphs need them: the logits are those of the batch alone. WebGPU
// runs such a batch without a capture, so it shows the numbers that the fake CUDA libraries do not compute.

if (needsGpu()) {
  const dir = await blocksModel(t, 'fp16');
  const manifest = loadManifest(dir);
  const environment = createEnvironment(1);
  const load = (kernel: StageKernel): Executor => {
    const source = { dir, manifest, environment, kernels: [kernel], weights: new Map<string, Uint8Array>() };
    const limits = { slots: 6, maxRows: 6, capacity: 256, maxChunk: 128, pages: 12, page: 64 };
    return new Executor(new PagedModel(source, webgpuDevice(environment), limits));
  };

  /** Steps of 1, 3 and 5 rows at every exit. @returns logits */
  const course = (executor: Executor): Float32Array[] => {
    const deepest = executor.units.exits.length - 1;
    const slots = [70, 3, 130, 40, 64].map((length, i) => openSlot(executor, tokens(length, i)));
    for (const slot of slots) advanceTo(executor, slot, deepest, slot.tokens.length - 1);
    const found: Float32Array[] = [];
    for (const rows of [5, 1, 3, 5, 3]) {
      const batch = slots.slice(0, rows).map((slot, i) => ({ slot, exit: executor.exit((i + rows) % (deepest + 1)) }));
      decodeRows(executor, batch);
      found.push(...batch.map((_, row) => executor.head.fullLogits(row).slice()));
      // Deeper units catch up over the kept states.
      for (const slot of slots) advanceTo(executor, slot, deepest, slot.tokens.length - 1);
      for (const { slot } of batch) slot.tokens.push(5 + found.length);
      for (const { slot } of batch) advanceTo(executor, slot, deepest, slot.tokens.length - 1);
    }
    return found;
  };

  void t.test('logits of filled batches', (t) => {
    const [plain, filled] = [load('fp16'), load('fp16-graph')];
    const [expected, found] = [course(plain), course(filled)];
    t.equal(found.length, 17);
    t.same(filled.kernels, ['fp16-graph'], 'the only kernel');
    expected.forEach((logits, i) => {
      const error = rms(logits, found[i] ?? new Float32Array(0));
      t.ok(error <= 1e-3, `position ${i}: rms ${error}`);
    });
    for (const executor of [plain, filled]) executor.dispose();
    t.end();
  });
}
