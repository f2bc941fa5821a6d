/** Measured costs at the start: when they are measured again, and the file that keeps them. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import { calibrationPlan, calibrate, type CalibrationPlan } from '../../../src/engine/calibration/calibrate.js';
import {
  calibrateAtStartup,
  type CalibrationKey,
  compareCosts,
  machineName,
  readCalibration,
  type StartupCalibration,
  writeCalibration,
} from '../../../src/engine/calibration/startup.js';
import { monotonicMs } from '../../../src/util/clock.js';
import { loadManifest } from '../../../src/engine/model/manifest-io.js';
import { bytesPerPosition } from '../../../src/engine/model/memory.js';
import type { CostTable, UnitCost } from '../../../src/engine/scheduler/cost/table.js';
import { costModel } from '../../../src/engine/scheduler/cost/model.js';
import { depthShape } from '../../../src/engine/depth-shape.js';
import { table } from '../../scheduler/sample.js';
import { engineOptions, makeExecutor } from '../helper.js';
import { tinyModel } from '../tiny-model.js';
import type { Executor } from '../../../src/engine/execution/executor.js';

const scaled = (costs: CostTable, decode: number, prefill: number): CostTable => ({
  units: costs.units.map((unit): UnitCost => ({
    ...unit,
    decode: unit.decode.map((point) => ({ ...point, ms: point.ms * decode })),
    prefill: unit.prefill.map((point) => ({ ...point, ms: point.ms * prefill })),
  })),
});

void t.test('cheaper steps make cached costs stale, dearer steps are a slowdown', (t) => {
  const cases: [number, number, Omit<ReturnType<typeof compareCosts>, 'ratio'>][] = [
    [1, 1, { stale: false, slowdown: 1 }],
    [1.25, 0.8, { stale: false, slowdown: 1 }],
    [0.3, 0.3, { stale: true, slowdown: 1 }],
    [1, 0.3, { stale: true, slowdown: 1 }],
    [3, 3, { stale: false, slowdown: 3 }],
    [3, 1.2, { stale: false, slowdown: 1 }],
    [1000, 1000, { stale: true, slowdown: 1000 }],
  ];
  for (const [decode, prefill, expected] of cases) {
    const found = compareCosts(table, scaled(table, decode, prefill));
    t.equal(found.stale, expected.stale, `${decode} and ${prefill}`);
    t.ok(Math.abs(found.slowdown - expected.slowdown) < 1e-6, `${decode} and ${prefill}: ${found.slowdown}`);
  }
  const [first, ...rest] = table.units;
  t.ok(first);
  t.equal(compareCosts({ units: rest }, table).stale, true, 'a unit missing in the cache');
  const dearer = scaled(table, 50, 50).units.map((unit) => ({ ...unit, kernel: 'int4' as const }));
  const both: CostTable = { units: [...table.units, ...dearer] };
  t.match(compareCosts(both, both), { ratio: 1, stale: false, slowdown: 1 }, 'each kernel has its own costs');
  t.end();
});

/** A clock on which each step of the executor takes that many milliseconds. */
function ticking(ms: number): () => number {
  let now = 0;
  return () => (now += ms);
}

void t.test('cached costs are used until the machine is faster, then measured again', async (t) => {
  const modelDir = await tinyModel(t, 'float');
  const options: EngineOptions = engineOptions({ modelDir, cacheDir: join(t.testdir(), 'cache') });
  const executor = await makeExecutor(t, options);
  const start = (ms: number): StartupCalibration => calibrateAtStartup(executor, options, ticking(ms));
  const looks = (): number => {
    let count = 0;
    calibrateAtStartup(executor, options, () => ++count);
    return count;
  };
  const all = looks();
  t.ok(looks() * 4 < all, 'a check of cached costs measures a few points only');
  const first = start(1);
  t.match(first, { source: 'cache', note: null, slowdown: 1 });
  t.same(start(1.2), { ...first, source: 'cache' }, 'a drifting clock changes nothing');

  const slower = start(3);
  t.match(slower, { source: 'cache', note: null, costs: first.costs });
  t.ok(Math.abs(slower.slowdown - 3) < 1e-6);

  const faster = start(0.25);
  t.match(faster, { source: 'measured', slowdown: 1, note: /steps take 0\.25 times the cached costs/ });
  t.same(start(0.25), { ...faster, source: 'cache', note: null }, 'the new costs are stored');
  t.same(start(1).costs, faster.costs, 'they stay when the machine is busy again');
});

void t.test('a KV cache of few positions is measured within its size, and costs are complete', async (t) => {
  const modelDir = await tinyModel(t, 'float');
  const kvMemoryBytes = 5 * bytesPerPosition(loadManifest(modelDir));
  const options = engineOptions({ modelDir, kvMemoryBytes });
  const executor = await makeExecutor(t, options);
  const { limits, manifest } = executor.model;
  t.equal(limits.capacity, 5);
  const { chunks, contexts } = calibrationPlan(options.maxRunning, options.prefillChunk, limits.capacity);
  // A run beyond the cache would touch foreign memory, so the test runs only a correct plan.
  if (!t.equal(Math.max(...contexts) + Math.max(...chunks), limits.capacity)) return;
  t.doesNotThrow(() => costModel(calibrateAtStartup(executor, options, monotonicMs).costs, depthShape(manifest)));
});

const key: CalibrationKey = {
  manifest: 'a',
  machine: machineName(),
  threads: 2,
  device: 'cpu',
  kernels: ['w8a8'],
  runtime: '1',
  plan: {},
};

void t.test('a stored calibration is read back only for the same model, machine, threads and runtime', async (t) => {
  const dir = join(t.testdir(), 'home', 'cache');
  t.same(readCalibration(dir, key), { cost: null, why: null }, 'nothing stored yet');
  t.equal(writeCalibration(dir, key, table), null);
  t.same(readCalibration(dir, key).cost, table);
  const [older, newer] = ['570.86, CUDA 12.8', '580.1, CUDA 13.0'].map((driver) => ({
    devices: [['NVIDIA L4', driver] as const],
  }));
  for (const other of [
    { manifest: 'b' },
    { machine: 'x' },
    { threads: 3 },
    { runtime: '2' },
    { kernels: ['int4'] },
    older,
  ])
    t.equal(readCalibration(dir, { ...key, ...other }).cost, null, JSON.stringify(other));
  writeCalibration(dir, { ...key, ...older }, table);
  t.same(readCalibration(dir, { ...key, ...older }).cost, table);
  t.equal(readCalibration(dir, { ...key, ...newer }).cost, null, 'a new driver');
});

void t.test('a corrupt or foreign file is skipped with a reason', async (t) => {
  const dir = join(t.testdir(), 'cache');
  writeCalibration(dir, key, table);
  const file = join(dir, readdirSync(dir)[0] ?? '');
  const text = readFileSync(file, 'utf8');
  const broken: [string, RegExp][] = [
    [text.slice(0, 100), /not JSON/],
    ['{}', /shape/],
    [text.replace(/"ms":[\d.]+/, '"ms":99'), /checksum/],
    [text.replace('"manifest":"a"', '"manifest":"z"'), /another model/],
  ];
  for (const [content, why] of broken) {
    writeFileSync(file, content);
    t.match(readCalibration(dir, key), { cost: null, why });
  }
});

void t.test('a failed write is a reason, not an error, and leaves no temporary file behind', async (t) => {
  const file = join(t.testdir({ file: '' }), 'file', 'cache');
  for (const folder of process.platform === 'linux' ? [file, '/proc/nope'] : [file])
    t.match(writeCalibration(folder, key, table), /can't be written/);
  const dir = join(t.testdirName, 'cache');
  t.equal(writeCalibration(dir, key, table), null);
  const [name = ''] = readdirSync(dir);
  t.strictSame(readdirSync(dir), [name], 'a successful write leaves none either');
  rmSync(join(dir, name));
  // A file can't take the place of a folder.
  mkdirSync(join(dir, name));
  t.match(writeCalibration(dir, key, table), /can't be written \(EISDIR\)/);
  t.match(readCalibration(dir, key), { cost: null, why: /can't be read \(EISDIR\)/ });
  t.strictSame(readdirSync(dir), [name]);
});

// The results of a calibration, on a fake machine with a fake clock.

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

void t.test('a disturbed stage gets the median cost per layer', async (t) => {
  t.same(machine([2, 4, 1], (stage) => [20, 44, 90][stage] ?? 0).ms, [20, 44, 11]);
});

void t.test('after patienceMs each point runs once', async (t) => {
  const { ms, runs } = machine([1], (_, run) => [1200, 5][run] ?? 0);
  t.same(ms, [1200]);
  t.same([...runs.values()], [1, 1]);
});
