/**
 * The engine over memory that the host can't touch outside runs and copies, as on a device: an access of its own ends this
 * process. Also the calls of a step: states move inside the device, and no row is read or written from the host.
 */
import t from 'tap';
import koffi from 'koffi';
import { Executor } from '../../src/engine/execution/executor.js';
import { loadModel } from '../../src/engine/execution/load-model.js';
import { drain, engineOptions, greedy, makeCore } from './helper.js';
import { tinyModel } from './tiny-model.js';
import { cpuDevice, type HostDevice } from '../../src/engine/runtime/device.js';
import type { Environment } from '../../src/engine/runtime/environment.js';
import { PAGE } from '../../src/engine/runtime/libc.js';

// Main memory as a device that the host can't touch: it is protected outside runs and copies, so that any access by the
// engine itself ends the process. Counts what a step does.

const PROT_NONE = 0;
const PROT_READ_WRITE = 3;
const mprotect = koffi.load('libc.so.6').func('int mprotect(void*, size_t, int)');

interface GuardedCounts {
  runs: number;
  copies: number;
  uploads: number;
  downloads: number;
}

/** Guards all memory of a device from now on. The environment's runs open it. */
function guardedDevice(environment: Environment, counts: GuardedCounts): HostDevice {
  const device = cpuDevice(environment);
  const areas = new Map<bigint, number>();
  let depth = 0;
  const protect = (address: bigint, bytes: number, mode: number): void => {
    const size = Math.ceil(bytes / PAGE) * PAGE;
    if (mprotect(address, size, mode) !== 0) throw new Error(`mprotect of ${bytes} bytes failed`);
  };
  const opened = <T>(work: () => T): T => {
    if (depth++ === 0) for (const [address, bytes] of areas) protect(address, bytes, PROT_READ_WRITE);
    try {
      return work();
    } finally {
      if (--depth === 0) for (const [address, bytes] of areas) protect(address, bytes, PROT_NONE);
    }
  };
  const { ort } = environment;
  const call = ort.call.bind(ort);
  ort.call = (name, ...args) => {
    if (name !== 'RunWithBinding') {
      call(name, ...args);
      return;
    }
    counts.runs++;
    opened(() => {
      call(name, ...args);
    });
  };
  return {
    ...device,
    alloc: (bytes) => {
      const address = device.alloc(bytes);
      areas.set(address, bytes);
      if (depth === 0) protect(address, bytes, PROT_NONE);
      return address;
    },
    free: (address, bytes) => {
      areas.delete(address);
      device.free(address, bytes);
    },
    copy: (target, source, bytes) => {
      counts.copies++;
      opened(() => {
        device.copy(target, source, bytes);
      });
    },
    upload: (copies) => {
      counts.uploads++;
      opened(() => {
        device.upload(copies);
      });
    },
    download: (source, target) => {
      counts.downloads++;
      opened(() => {
        device.download(source, target);
      });
    },
  };
}

const counts: GuardedCounts = { runs: 0, copies: 0, uploads: 0, downloads: 0 };
const modelDir = await tinyModel(t, 'float');
const options = { modelDir, maxRunning: 4, kvMemoryBytes: 2 ** 22 };

/** Tokens of a course with shared prompts, drafts, preemption and scores, by request. */
async function course(executor: Executor): Promise<Map<string, number[]>> {
  const exits = executor.model.manifest.exits.map(({ layer }) => layer);
  const prompt = Array.from({ length: 40 }, (_, i) => 3 + ((i * 37) % 200));
  const core = makeCore(executor, { ...options, speculate: 'all' });
  for (const [i, exit] of [...exits, ...exits, ...exits].entries())
    core.submit(greedy(`a${i}`, [...prompt, i], exit, 12, i === 1 ? { promptLogprobs: 0, logprobs: 2 } : {}));
  const answers = drain(core);
  core.submit(greedy('lone', prompt, exits[0] ?? 0, 20));
  for (const [id, answer] of drain(core)) answers.set(id, answer);
  const tight = makeCore(executor, { ...options, kvMemoryBytes: 150 * executor.model.bytesPerPosition });
  for (const i of [0, 1, 2]) tight.submit(greedy(`b${i}`, prompt, exits.at(-1) ?? 0, 40));
  const tightly = drain(tight);
  t.ok(
    [...tightly.values()].some(({ ended }) => (ended?.preemptions ?? 0) > 0),
    'a sequence was preempted',
  );
  executor.forget(0);
  return new Map([...answers, ...tightly].map(([id, { tokens }]) => [id, tokens]));
}

void t.test('the engine never touches device memory itself', { skip: process.platform !== 'linux' }, async (t) => {
  const plain = new Executor(await loadModel(engineOptions(options)));
  const expected = await course(plain);
  plain.dispose();
  const guarded = new Executor(
    await loadModel(engineOptions(options), undefined, {
      host: (environment) => guardedDevice(environment, counts),
      gpu: () => {
        throw new Error('the CPU serves');
      },
    }),
  );
  t.strictSame(await course(guarded), expected);

  const core = makeCore(guarded, { ...options, prefixReuse: false });
  const [shallow = 0, deep = 0] = guarded.units.exits.map(({ layer }) => layer);
  for (const [i, exit] of [shallow, deep, deep].entries()) core.submit(greedy(`c${i}`, [5 + i, 6, 7], exit, 10));
  let steps = 0;
  while (core.busy) {
    const before = { ...counts };
    const { tokens, work } = core.step();
    if (tokens.length < 3 || (work?.prefillTokens ?? 0) > 0) continue;
    steps++;
    const made = Object.fromEntries(
      Object.entries(counts).map(([name, now]) => [name, now - before[name as keyof GuardedCounts]]),
    );
    // Runs: embedding, two stages, head, argmax. Copies: each row to the head, and one state that a deeper stage may need.
    t.strictSame(made, { runs: 5, copies: 4, uploads: 0, downloads: 0 });
  }
  t.ok(steps > 3);
  guarded.dispose();
});
