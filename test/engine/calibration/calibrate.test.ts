/** The results of a calibration, on a fake machine with a fake clock. */
import t from 'tap';
import { calibrate, type CalibrationPlan } from '../../../src/engine/calibration/calibrate.js';
import type { Executor } from '../../../src/engine/execution/executor.js';

const plan: CalibrationPlan = { rows: [1], chunks: [8], contexts: [0], repeats: 2, patienceMs: 1000 };

/** @param msOf duration of the n-th run of a stage in decode or prefill */
function machine(
  layers: readonly number[],
  msOf: (stage: number, run: number, kind: string) => number,
  measured = plan,
  trunkStages = layers.length,
) {
  let now = 0;
  let forgotten = 0;
  const runs = new Map<string, number>();
  const run = (kind: string, stage: number): void => {
    const count = runs.get(`${kind} ${stage}`) ?? 0;
    runs.set(`${kind} ${stage}`, count + 1);
    now += msOf(stage, count, kind);
  };
  const executor = {
    kernels: ['fp32'],
    units: {
      trunkStages,
      stages: layers.map((count, i) => ({ entry: { name: `s${i}`, layers: count } })),
    },
    alone: {
      rows: (stage: number) => {
        run('decode', stage);
      },
      chunk: (stage: number) => {
        run('prefill', stage);
      },
      embed: () => (now += 1),
      head: () => (now += 1),
    },
    forget: (written: number) => (forgotten = written),
  };
  const costs = calibrate(executor as unknown as Executor, measured, () => now);
  const ms = costs.units.filter(({ unit }) => unit.startsWith('s')).map(({ decode }) => decode[0]?.ms);
  return { ms, runs, forgotten };
}

void t.test('a point is the fastest of its runs; the first run binds', async (t) => {
  const { ms, runs, forgotten } = machine([2, 2, 2], (_, run) => [90, 8, 40][run] ?? 0);
  t.same(ms, [8, 8, 8]);
  t.same([...new Set(runs.values())], [3]);
  t.equal(forgotten, 8, 'the executor forgets the measured positions');
});

void t.test('all other stages run between two runs of a stage, as in a served step', async (t) => {
  const order: number[] = [];
  const note = (stage: number, _run: number, kind: string): number => (kind === 'decode' ? order.push(stage) : 1);
  machine([2, 2, 2], note, { ...plan, rows: [1, 4], contexts: [0, 64] });
  t.equal(order.length, 3 * 4 * (plan.repeats + 1));
  t.same(
    order,
    order.map((_, i) => i % 3),
  );
});

void t.test('a disturbed stage gets the median cost per layer', async (t) => {
  t.same(machine([2, 4, 1], (stage) => [20, 44, 90][stage] ?? 0).ms, [20, 44, 11]);
});

void t.test('so does a disturbed exit block, among blocks', async (t) => {
  t.same(machine([5, 2, 2, 12], (unit) => [50, 4, 90, 24][unit] ?? 0, plan, 1).ms, [50, 4, 4, 24]);
});

void t.test('after patienceMs each point runs once', async (t) => {
  const { ms, runs } = machine([1], (_, run) => [1200, 5][run] ?? 0);
  t.same(ms, [1200]);
  t.same([...runs.values()], [1, 1]);
});
