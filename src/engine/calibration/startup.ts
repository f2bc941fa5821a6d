/**
 * What units cost when a server starts: kept by an earlier start and checked against a few steps, or measured now.
 *
 * Knows: the cache of calibrations, how far its costs may be off. Must not know: requests.
 *
 * Noise only ever adds. So costs that are well above what steps take now were measured on a busy machine: they are
 * measured again, and kept. Costs that are well below are the quiet machine's, and this one is busy: they stay, and the
 * cost model begins with the slowdown that it would have to learn from late answers.
 */
import { join } from 'node:path';
import { MANIFEST_FILE } from '../../model/manifest-io.js';
import type { CostPoint, CostTable, UnitCost } from '../../cost/table.js';
import { loadOrt } from '../../runtime/ort-api.js';
import { type CalibrationPlan, calibrate, calibrationPlan } from './calibrate.js';
import { type CalibrationKey, fileDigest, machineName, readCalibration, writeCalibration } from './cache.js';
import type { Executor } from '../execution/executor.js';
import type { Calibration } from '../protocol.js';
import type { EngineOptions } from '../client/options.js';

/** Costs may be off by that factor either way: clocks drift by 20%, and a check is of few runs. */
const TOLERANCE = 1.35;
/** No machine is so busy; past that a check measured something else. */
const MOST = 20;

export interface StartupCalibration extends Calibration {
  readonly costs: CostTable;
  /** How many times slower than `costs` the machine is now; 1: as they say. */
  readonly slowdown: number;
}

/** @param now milliseconds on a monotonic clock */
export function calibrateAtStartup(executor: Executor, options: EngineOptions, now: () => number): StartupCalibration {
  const { limits, device } = executor.model;
  const plan = calibrationPlan(options.maxRunning, options.prefillChunk, limits.capacity);
  const measured = (): CostTable => calibrate(executor, plan, now);
  const dir = options.cacheDir;
  if (dir === undefined) return { costs: measured(), slowdown: 1, source: 'measured', note: null };
  const key: CalibrationKey = {
    manifest: fileDigest(join(options.modelDir, MANIFEST_FILE)),
    machine: machineName(),
    threads: options.threads,
    device: device.kind,
    kernels: executor.kernels,
    runtime: loadOrt().version,
    plan,
  };
  const { cost, why } = options.recalibrate === true ? { cost: null, why: null } : readCalibration(dir, key);
  let reason = why;
  if (cost !== null) {
    const { ratio, stale, slowdown } = compareCosts(cost, calibrate(executor, smallest(plan), now));
    if (!stale) return { costs: cost, slowdown, source: 'cache', note: null };
    reason = `steps take ${ratio.toFixed(2)} of what it says, so all was measured again`;
  }
  const costs = measured();
  const notes = [reason, writeCalibration(dir, key, costs)].filter((note) => note !== null);
  return { costs, slowdown: 1, source: 'measured', note: notes.length === 0 ? null : notes.join('; ') };
}

/** The cheapest point of each unit: 0.3 s for the embedded model, most of it bindings that a first request would make. */
function smallest(plan: CalibrationPlan): CalibrationPlan {
  return { ...plan, rows: plan.rows.slice(0, 1), chunks: plan.chunks.slice(0, 1), contexts: plan.contexts.slice(0, 1) };
}

export interface CostComparison {
  /** What the units take now, all together, as a multiple of what was kept; of the kind of work that is the most below it. */
  readonly ratio: number;
  /** Kept while the machine was busy: not worth keeping. */
  readonly stale: boolean;
  /** What to begin with where they are kept: 1 within the tolerance. */
  readonly slowdown: number;
}

/** Compares kept costs with those of the same points, measured now; points that were not kept make them stale. */
export function compareCosts(kept: CostTable, now: CostTable): CostComparison {
  const decode = ratioOf(kept, now, (unit) => unit.decode);
  const prefill = ratioOf(kept, now, (unit) => unit.prefill);
  const ratio = Math.min(decode, prefill);
  const slow = Math.max(decode, prefill);
  return {
    ratio,
    stale: !(ratio >= 1 / TOLERANCE && slow <= MOST),
    slowdown: ratio > TOLERANCE ? ratio : 1,
  };
}

function ratioOf(kept: CostTable, now: CostTable, pointsOf: (unit: UnitCost) => readonly CostPoint[]): number {
  let before = 0;
  let after = 0;
  for (const unit of now.units) {
    const same = kept.units.find(({ unit: name, kernel }) => name === unit.unit && kernel === unit.kernel);
    for (const { rows, context, ms } of pointsOf(unit)) {
      const point = same && pointsOf(same).find((each) => each.rows === rows && each.context === context);
      before += point?.ms ?? NaN;
      after += ms;
    }
  }
  return after / before;
}
