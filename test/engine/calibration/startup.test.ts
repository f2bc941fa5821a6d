import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import { calibrationPlan } from '../../../src/engine/calibration/calibrate.js';
import {
  calibrateAtStartup,
  compareCosts,
  fileDigest,
  machineName,
  type StartupCalibration,
} from '../../../src/engine/calibration/startup.js';
import { monotonicMs } from '../../../src/util/clock.js';
import { loadManifest, MANIFEST_FILE } from '../../../src/engine/model/manifest-io.js';
import { bytesPerPosition } from '../../../src/engine/model/memory.js';
import type { CostTable, UnitCost } from '../../../src/engine/scheduler/cost/table.js';
import { costModel } from '../../../src/engine/scheduler/cost/model.js';
import { depthShape } from '../../../src/engine/depth-shape.js';
import { loadOrt } from '../../../src/engine/runtime/ort-api.js';
import { table } from '../../scheduler/sample.js';
import { engineOptions, makeExecutor } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

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

void t.test('cached costs belong to a model and a thread count', async (t) => {
  const modelDir = await tinyModel(t, 'float');
  const dir = t.testdir();
  const options: EngineOptions = engineOptions({ modelDir, cacheDir: join(dir, 'cache') });
  const executor = await makeExecutor(t, options);
  const source = (other: Partial<EngineOptions>): string =>
    calibrateAtStartup(executor, { ...options, ...other }, ticking(1)).source;
  t.equal(source({}), 'measured');
  const [name = ''] = readdirSync(join(dir, 'cache'));
  const { key } = JSON.parse(readFileSync(join(dir, 'cache', name), 'utf8')) as { key: unknown };
  t.strictSame(key, {
    manifest: fileDigest(join(modelDir, MANIFEST_FILE)),
    machine: machineName(),
    threads: options.threads,
    device: 'cpu',
    kernels: executor.kernels,
    runtime: loadOrt().version,
    plan: {
      ...calibrationPlan(options.maxRunning, options.prefillChunk, executor.model.limits.capacity),
      order: 'alternated',
      smooth: 'all',
    },
  });
  t.equal(source({}), 'cache');
  t.equal(source({ threads: options.threads + 1 }), 'measured');
  t.equal(source({ promptExit: false }), 'measured', 'prompts then run other graphs');
  const manifest = loadManifest(modelDir);
  const renamed = { ...manifest, name: `${manifest.name}-2` };
  writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify(renamed));
  t.equal(source({ modelDir: dir }), 'measured');
  t.equal(source({}), 'cache', 'the first entry is still stored');
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
