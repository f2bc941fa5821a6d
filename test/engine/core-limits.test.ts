/** What a core counts: rows of a coming step, the time of a step, places in the queue, bytes of a prefix. With costs made up. */
import t from 'tap';
import { chunkSizes } from '../../src/router/planner.js';
import { EngineCore, type CoreOptions } from '../../src/engine/core.js';
import { defaultPolicy } from '../../src/router/planner.js';
import type { CostPoint } from '../../src/router/cost.js';
import { greedy, makeExecutor } from './helper.js';
import { tinyModel } from './tiny-model.js';

const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float') });
const { units, kernels } = executor;
const deepest = units.exits.at(-1)?.layer ?? 0;

/** A row costs 100 ms in the first stage, and nothing else costs anything to speak of. */
function core(clock: () => number, limits: Partial<CoreOptions> = {}): EngineCore {
  const points = (ms: number): CostPoint[] => [1, 4, 16].map((rows) => ({ rows, context: 0, ms: ms * rows }));
  const [kernel = 'fp32'] = kernels;
  const costs = {
    units: [
      ...units.stages.map(({ entry }, index) => ({
        unit: entry.name,
        kernel,
        decode: points(index === 0 ? 100 : 0.001),
        prefill: points(0.001),
      })),
      { unit: 'embed', kernel, decode: points(0.001), prefill: points(0.001) },
      { unit: 'head', kernel, decode: points(0.001), prefill: [] },
    ],
  };
  return new EngineCore(executor, costs, {
    maxRunning: 8,
    maxQueue: 8,
    kvBytes: 2 ** 30,
    prefixReuse: false,
    prefillChunk: 8,
    speculate: 'off',
    policy: { ...defaultPolicy, chunks: chunkSizes(8) },
    clock,
    ...limits,
  });
}

const prompt = (length: number) => Array.from({ length }, (_, i) => 3 + (i % 20));

void t.test('prompts that are not done are no rows of the coming step', async (t) => {
  const engine = core(() => 0);
  const budget = { totalMs: 400, ttftMs: null, tpotMs: null, onMiss: 'truncate' } as const;
  const depth = { minExit: deepest, maxExit: deepest, budget };
  engine.submit(greedy('cut', [3], deepest, 2, { arrivedAt: 0, depth }));
  for (const id of ['a', 'b', 'c', 'd', 'e']) engine.submit(greedy(id, prompt(40), deepest, 2, { arrivedAt: 0 }));
  const { tokens, ended } = engine.step();
  t.strictSame(ended, [], 'one row takes a quarter of its budget, six would take more');
  t.match(tokens, [{ id: 'cut' }]);
});

void t.test('the time in which nothing could go on is no step that took long', async (t) => {
  const slowdowns = [true, false].map((rests) => {
    let now = 0;
    const engine = core(() => (now += 25));
    engine.submit(greedy('a', [3], deepest, 40, { arrivedAt: 0 }));
    let slowdown = 1;
    for (let step = 0; step < 20; step++) {
      slowdown = engine.step().work?.slowdown ?? slowdown;
      if (rests) engine.rest();
      now += 5000;
    }
    return slowdown;
  });
  const [rested = NaN, waited = NaN] = slowdowns;
  t.ok(rested <= 1.5, `${rested}`);
  t.ok(waited > 3, `${waited}`);
});

void t.test('who waits before it is submitted has a place, which it keeps', async (t) => {
  const engine = core(() => 0, { maxRunning: 1, maxQueue: 1 });
  const submit = (id: string, elsewhere: number | null): void => {
    engine.submit(greedy(id, [3], deepest, 2, { arrivedAt: 0 }), null, elsewhere);
  };
  submit('first', 1);
  submit('beyond', 1);
  submit('kept', null);
  submit('later', 0);
  t.strictSame(
    engine.step().refused.map(({ id, reason }) => [id, reason]),
    [
      ['beyond', 'queue_full'],
      ['later', 'queue_full'],
    ],
  );
});

void t.test('a shallow request takes no deep prefix that has no room, and runs beside it', async (t) => {
  const shallowest = units.exits[0]?.layer ?? 0;
  const shared = prompt(60);
  const { table } = executor;
  const deep = table.bytesAt(units.exits.length - 1, 90);
  for (const [room, cached] of [
    [table.bytesAt(0, 75), 0],
    [deep, 60],
  ] as const) {
    const engine = core(() => 0, { prefixReuse: true, kvBytes: deep + room });
    engine.submit(greedy('deep', [...shared, 4, 5, 6, 7], deepest, 20, { arrivedAt: 0 }));
    while (engine.scheduler.running[0]?.generated !== 2) engine.step();
    engine.submit(greedy('shallow', [...shared, 8, 9, 10, 11], shallowest, 4, { arrivedAt: 1 }));
    const ended = [];
    while (engine.busy) ended.push(...engine.step().ended);
    t.match(ended, [
      { id: 'shallow', reason: 'length', preemptions: 0, cachedTokens: cached },
      { id: 'deep', reason: 'length', preemptions: 0 },
    ]);
    for (const slot of table.slots) table.drop(slot);
  }
});

void t.test(
  'requests that arrive between two steps are admitted by the next one, and may be cancelled before it',
  async (t) => {
    const engine = core(() => 0);
    const ids = ['a', 'b', 'c'];
    for (const id of ids) engine.submit(greedy(id, [3, 4], deepest, 2, { arrivedAt: 0 }));
    t.ok(engine.busy);
    t.notOk(engine.isStalled);
    engine.cancel('b');
    const { planned, ended, load } = engine.step();
    t.strictSame(
      planned.map(({ id }) => id),
      ids,
    );
    t.match(ended, [{ id: 'b', reason: 'cancelled' }]);
    t.equal(load.running + load.waiting, 2);
  },
);
