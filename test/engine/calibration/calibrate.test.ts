/** What a calibration makes of its measurements, on a machine and a clock that are made up. */
import t from 'tap';
import { calibrate, type CalibrationPlan } from '../../../src/engine/calibration/calibrate.js';
import type { Executor } from '../../../src/engine/execution/executor.js';

const plan: CalibrationPlan = { rows: [1], chunks: [8], contexts: [0], repeats: 2, patienceMs: 1000 };

/** @param msOf what the n-th run of a stage takes */
function machine(layers: readonly number[], msOf: (stage: number, run: number) => number) {
  let now = 0;
  let forgotten = 0;
  const runs = new Map<string, number>();
  const run = (kind: string, stage: number): void => {
    const count = runs.get(`${kind} ${stage}`) ?? 0;
    runs.set(`${kind} ${stage}`, count + 1);
    now += msOf(stage, count);
  };
  const executor = {
    kernels: ['fp32'],
    units: { trunk: layers.length, stages: layers.map((count, i) => ({ entry: { name: `s${i}`, layers: count } })) },
    runRows: (stage: number) => {
      run('decode', stage);
    },
    runChunk: (stage: number) => {
      run('prefill', stage);
    },
    runEmbed: () => (now += 1),
    runHead: () => (now += 1),
    forget: (touched: number) => (forgotten = touched),
  };
  const costs = calibrate(executor as unknown as Executor, plan, () => now);
  const ms = costs.units.filter(({ unit }) => unit.startsWith('s')).map(({ decode }) => decode[0]?.ms);
  return { ms, runs, forgotten };
}

void t.test('a point is the least of its runs, of which the first binds', async (t) => {
  const { ms, runs, forgotten } = machine([2, 2, 2], (_, run) => [90, 8, 40][run] ?? 0);
  t.same(ms, [8, 8, 8]);
  t.same([...new Set(runs.values())], [3]);
  t.equal(forgotten, 8, 'the positions that were run are given back');
});

void t.test('a stage that was disturbed costs per layer what the middle one costs', async (t) => {
  t.same(machine([2, 4, 1], (stage) => [20, 44, 90][stage] ?? 0).ms, [20, 44, 11]);
});

void t.test('past its patience each point is one run', async (t) => {
  const { ms, runs } = machine([1], (_, run) => [1200, 5][run] ?? 0);
  t.same(ms, [1200]);
  t.same([...runs.values()], [1, 1]);
});
