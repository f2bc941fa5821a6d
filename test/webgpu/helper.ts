/**
 * Engines on ONNX Runtime's WebGPU provider: on a GPU, or on Debian's software Vulkan (mesa-vulkan-drivers). Without an
 * adapter the tests are skipped with the provider's reason.
 */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import { Executor } from '../../src/engine/execution/executor.js';
import { EngineCore, type CoreOptions } from '../../src/engine/worker/core.js';
import type { Slot } from '../../src/engine/scheduler/kv/units.js';
import { loadModel } from '../../src/engine/execution/load-model.js';
import type { EngineOptions } from '../../src/protocol/engine-options.js';
import { chunkSizes, defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { cpuDevice, type Gpu } from '../../src/engine/runtime/device.js';
import { createEnvironment, type Environment } from '../../src/engine/runtime/environment.js';
import { webgpuDevice } from '../../src/engine/runtime/webgpu.js';
import { advanceTo, engineOptions, flatCosts, openSlot } from '../engine/helper.js';
import { blocksModel } from '../engine/tiny-model.js';

// Tests run beside each other.
process.env.LP_NUM_THREADS ??= '1';

/** Ends the test file with a reason where there is no GPU. */
export function needsGpu(): boolean {
  try {
    webgpuDevice(createEnvironment(1));
    return true;
  } catch (error) {
    t.plan(0, error instanceof Error ? error.message : String(error));
    return false;
  }
}

/** An executor that the test disposes. */
export async function loaded(
  t: Test,
  overrides: Partial<EngineOptions>,
  devices?: Parameters<typeof loadModel>[2],
): Promise<Executor> {
  const executor = new Executor(
    await loadModel(engineOptions({ kvMemoryBytes: 2 ** 22, ...overrides }), undefined, devices),
  );
  t.teardown(() => {
    executor.dispose();
  });
  return executor;
}

/** Calls of a GPU's memory. */
export interface Counts {
  uploads: number;
  downloads: number;
  allocations: number;
  /** Runs of graphs. */
  runs: number;
}

export interface Pair {
  readonly cpu: Executor;
  readonly gpu: Executor;
  /** Calls of the GPU's memory so far. */
  readonly counts: Counts;
}

/** The tiny model on the CPU and on the GPU. */
export async function tinyPair(t: Test): Promise<Pair> {
  const counts: Counts = { uploads: 0, downloads: 0, allocations: 0, runs: 0 };
  const load = async (kernel: 'fp32' | 'fp16', device: 'cpu' | 'webgpu'): Promise<Executor> =>
    loaded(
      t,
      { maxRunning: 6, prefillChunk: 128, modelDir: await blocksModel(t, kernel), device },
      {
        host: cpuDevice,
        gpu: (_, environment) => counted(webgpuDevice(environment), environment, counts),
      },
    );
  return { cpu: await load('fp32', 'cpu'), gpu: await load('fp16', 'webgpu'), counts };
}

/** A source in fp32 on the CPU and in fp16 on the GPU. */
export async function convertedPair(
  t: Test,
  source: string,
  overrides: Partial<EngineOptions> = {},
): Promise<readonly [cpu: Executor, gpu: Executor]> {
  const dir = join(t.testdirName, 'converted');
  const load = async (kernel: 'fp32' | 'fp16', device: 'cpu' | 'webgpu'): Promise<Executor> => {
    const modelDir = join(dir, kernel);
    await convert({ source, out: modelDir, kernels: [kernel], compress: false, force: false });
    return loaded(t, { modelDir, device, kvMemoryBytes: 2 ** 23, ...overrides });
  };
  return [await load('fp32', 'cpu'), await load('fp16', 'webgpu')];
}

export function counted(device: Gpu, { ort }: Environment, counts: Counts): Gpu {
  const call = ort.call.bind(ort);
  ort.call = (name, ...args) => {
    if (name === 'RunWithBinding') counts.runs++;
    call(name, ...args);
  };
  return {
    ...device,
    alloc: (bytes) => {
      counts.allocations++;
      return device.alloc(bytes);
    },
    upload: (copies) => {
      counts.uploads++;
      device.upload(copies);
    },
    download: (source, target) => {
      counts.downloads++;
      device.download(source, target);
    },
  };
}

/** A core in which a position costs a millisecond in each unit, or another time. Its clock stands still. */
export function coreOf(executor: Executor, limits: Partial<CoreOptions> = {}, positionMs = 1): EngineCore {
  return new EngineCore(
    executor,
    flatCosts(executor, () => positionMs),
    {
      ...{ maxRunning: 6, maxQueue: 200, kvBytes: 2 ** 22, prefixReuse: true, prefillChunk: 128, speculate: 'off' },
      policy: { ...defaultPolicy, chunks: chunkSizes(128) },
      clock: () => 0,
      ...limits,
    },
  );
}

/** Token ids that differ from seed to seed. */
export function tokens(length: number, seed: number): number[] {
  return Array.from({ length }, (_, i) => 3 + ((i * 37 + seed * 101 + i * i * (seed % 5)) % 250));
}

/**
 * Decodes a step.
 * @param rows slot and exit of each row
 * @param chunks slot, exit and end of each chunk that runs before them
 * @returns the logits of each row
 */
export function decode(
  executor: Executor,
  rows: readonly (readonly [Slot, number])[],
  chunks: readonly (readonly [Slot, number, number])[] = [],
): Float32Array[] {
  executor.run({
    chunks: chunks.map(([slot, exit, end]) => ({ slot, exit: executor.exit(exit), end })),
    rows: rows.map(([slot, exit]) => ({ slot, exit: executor.exit(exit) })),
    draft: null,
  });
  return rows.map((_, row) => executor.head.fullLogits(row).slice());
}

/** Two steps of mixed exits and lengths: one with a chunk, and one in which every row has another exit. */
export function mixedBatches(executor: Executor): {
  readonly slots: readonly [Slot, Slot, Slot, Slot];
  readonly logits: Float32Array[];
} {
  const deepest = executor.units.exits.length - 1;
  const open = (length: number, seed: number): Slot => openSlot(executor, tokens(length, seed));
  const slots = [open(70, 0), open(3, 1), open(130, 2), open(40, 3)] as const;
  const [a, b, c, d] = slots;
  advanceTo(executor, a, deepest, 69);
  advanceTo(executor, b, 0, 2);
  advanceTo(executor, c, 1, 129);
  // The chunk of d runs with the rows of the others, and d decodes in the same step.
  const first = decode(
    executor,
    [
      [b, 0],
      [a, deepest],
      [c, 1],
      [d, 0],
    ],
    [[d, 0, 39]],
  );
  for (const [i, slot] of slots.entries()) slot.tokens.push(17 + i);
  // Each row gets another exit, whose units catch up first.
  const second = decode(
    executor,
    [
      [d, 1],
      [b, deepest],
      [a, 0],
      [c, 1],
    ],
    [
      [a, 0, 70],
      [b, deepest, 3],
      [d, 1, 40],
    ],
  );
  return { slots, logits: [...first, ...second] };
}
