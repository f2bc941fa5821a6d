/**
 * A model whose stages lie on several cards. ONNX Runtime's WebGPU provider has one adapter, so every card is that one.
 * Stores, caches and crossings are those of different cards. Kernels and batches are the same as on one card, so the
 * logits are equal to the bit.
 */
import t, { type Test } from 'tap';
import { Executor } from '../../src/engine/execution/executor.js';
import { loadModel } from '../../src/engine/execution/load-model.js';
import { EngineCore } from '../../src/engine/worker/core.js';
import { chunkSizes, defaultPolicy } from '../../src/router/index.js';
import { cpuDevice } from '../../src/runtime/cpu.js';
import { webgpuDevice } from '../../src/runtime/webgpu.js';
import { post, serve } from '../chaos/helper.js';
import { advanceTo, drain, engineOptions, greedy, openSlot } from '../engine/helper.js';
import { type Counts, counted, decode, mixedBatches, needsGpu, tinyFolders, tokens } from './helper.js';

t.setTimeout(240_000);

if (needsGpu()) {
  const { gpu: modelDir } = await tinyFolders(t);
  const counts: Counts = { uploads: 0, downloads: 0, allocations: 0, runs: 0 };
  const load = async (cards: readonly number[]): Promise<Executor> => {
    const options = { modelDir, device: 'webgpu', cards, maxRunning: 6, prefillChunk: 128 } as const;
    const executor = new Executor(
      await loadModel(engineOptions({ ...options, kvMemoryBytes: 2 ** 22 }), undefined, {
        host: cpuDevice,
        gpu: (_, environment, card) => counted(webgpuDevice(environment, card), environment, counts),
      }),
    );
    t.teardown(() => {
      executor.dispose();
    });
    return executor;
  };
  const one = await load([0]);
  const several = [await load([0, 0]), await load([0, 0, 0])];
  const exits = one.units.exits.map((_, exit) => exit);
  const deepest = exits.length - 1;

  /** Chunks, rows at every exit, changes of depth, rollback and shared pages. @returns logits */
  const course = (executor: Executor): Float32Array[] => {
    const { slots, logits: found } = mixedBatches(executor);
    const [a, , c] = slots;
    a.tokens.push(...tokens(6, 9));
    executor.advance(a, deepest, a.tokens.length).output?.toHead(71, 6);
    found.push(...Array.from({ length: 6 }, (_, row) => executor.head.fullLogits(row)));
    executor.table.truncate(a, 71);
    a.tokens.length = 71;
    a.tokens.push(42);
    const e = openSlot(executor, [...tokens(130, 2).slice(0, 100), 7, 8, 9]);
    executor.table.copyPrefix(c, e, 100);
    advanceTo(executor, e, deepest, e.tokens.length - 1);
    found.push(
      ...decode(executor, [
        [e, deepest],
        [a, deepest],
      ]),
    );
    executor.forget(0);
    return found;
  };

  void t.test('logits are those of one card', (t) => {
    const expected = course(one);
    t.equal(expected.length, 16);
    for (const executor of several) t.strictSame(course(executor), expected);
    t.end();
  });

  void t.test('each card has its units: blocks beside the stage that they branch from', (t) => {
    t.same(
      several.map((executor) => executor.model.cards().map(({ units }) => units)),
      [
        [['stage-0', 'stage-1', 'exit-2', 'exit-4'], ['stage-2']],
        [['stage-0', 'exit-2'], ['stage-1', 'exit-4'], ['stage-2']],
      ],
    );
    t.end();
  });

  /** Greedy tokens of requests at every exit, and the waits of steps that gave tokens. */
  const serveAll = (executor: Executor) => {
    const points = [1, 4, 16].map((rows) => ({ rows, context: 0, ms: rows }));
    const [kernel = 'fp16'] = executor.kernels;
    const units = [...executor.units.stages.map(({ entry }) => entry.name), 'embed', 'head'];
    const costs = { units: units.map((unit) => ({ unit, kernel, decode: points, prefill: points })) };
    const core = new EngineCore(executor, costs, {
      ...{ maxRunning: 6, maxQueue: 200, kvBytes: 2 ** 22, prefixReuse: true, prefillChunk: 128, speculate: 'off' },
      policy: { ...defaultPolicy, chunks: chunkSizes(128) },
      clock: () => 0,
    });
    for (let i = 0; i < 18; i++) {
      const { layer = 0 } = executor.units.exits[i % exits.length] ?? {};
      core.submit(greedy(`r${i}`, tokens(2 + ((i * 29) % 150), i), layer, 16, { arrivedAt: 0 }));
    }
    const answers = drain(core);
    executor.forget(0);
    return [...answers].map(([id, answer]) => [id, answer.tokens] as const);
  };

  void t.test('greedy tokens are those of one card', (t) => {
    const expected = serveAll(one);
    for (const executor of several) t.strictSame(serveAll(executor), expected);
    t.end();
  });

  const waits = (t: Test, executor: Executor): void => {
    const slots = exits.map((exit) => openSlot(executor, tokens(20, exit)));
    const before = { ...counts };
    slots.forEach((slot, exit) => executor.advance(slot, exit, 19));
    executor.settle();
    t.equal(counts.downloads - before.downloads, 1, 'a step without tokens waits once');
    executor.decode(slots.map((slot, exit) => ({ slot, exit: executor.exit(exit) })));
    executor.head.choose(slots.length, 0);
    executor.settle();
    t.equal(counts.downloads - before.downloads, 2, 'a step with tokens waits once');
    const cards = executor.model.cards().length;
    t.equal(counts.uploads - before.uploads, 2 * cards, 'each card has one upload a step');
    t.equal(counts.allocations, before.allocations);
    executor.forget(0);
  };

  void t.test('a step waits once', (t) => {
    for (const executor of [one, ...several]) waits(t, executor);
    t.end();
  });

  void t.test('the server lays a model over cards, and says where', async (t) => {
    const server = await serve(t, modelDir, ['--device', 'webgpu:0,webgpu:0', '--kv-memory', '8MiB']);
    const answer = await post(server, '/v1/completions', { model: 'gpu', prompt: 'a', max_tokens: 8 });
    t.equal(answer.status, 200);
    const props = await (await fetch(`${server.url}/props`)).text();
    t.match(props, /"units":\["stage-0","stage-1","exit-2","exit-4"\]\},\{.*"units":\["stage-2"\]/);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    t.match(metrics, /engine_device_info\{.*device="webgpu",card="0"/);
  });
}
