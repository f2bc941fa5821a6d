/**
 * The costs of units at server start: read from the cache and checked with a few steps, or measured.
 *
 * Noise only adds time, so the two directions of a difference mean different things:
 * - Cached costs well above the measured ones come from a busy machine. The engine measures and stores them again.
 * - Cached costs well below the measured ones mean that this machine is busy. The engine keeps them, and the cost model
 *   starts with the measured slowdown instead of learning it from late answers.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { MANIFEST_FILE } from '../model/manifest-io.js';
import { type CostPoint, type CostTable, CostTableSchema, type UnitCost } from '../scheduler/cost/table.js';
import { loadOrt } from '../runtime/ort-api.js';
import { type CalibrationPlan, calibrate, calibrationPlan } from './calibrate.js';
import type { Executor } from '../execution/executor.js';
import type { Calibration } from '../../protocol/index.js';
import type { EngineOptions } from '../../protocol/engine-options.js';
import { readCacheFile, writeCacheFile } from '../../util/cache-file.js';
import { isValid, Type } from '../../util/schema.js';

/** Accepted factor between cached and measured costs: clocks drift by 20%, and a check has few runs. */
const TOLERANCE = 1.35;
/** No machine is slower than its cached costs by more than this factor; a larger ratio means different work. */
const MAX_RATIO = 20;

/** Everything that changes what a unit costs. */
export interface CalibrationKey {
  /** SHA-256 of the manifest, which holds those of all weight files. */
  readonly manifest: string;
  /** Model and flags of the processor. */
  readonly machine: string;
  readonly threads: number;
  readonly device: string;
  /** Name and driver of each GPU, and of several the units on each; absent on the CPU. */
  readonly devices?: readonly (readonly [name: string, driver: string | null])[];
  readonly kernels: readonly string[];
  readonly runtime: string;
  /** Points that were measured. */
  readonly plan: unknown;
}

const Entry = Type.Object({ key: Type.Unknown(), checksum: Type.String(), cost: CostTableSchema });

const digest = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex');

/** Processor and its instruction sets, as the system names them. */
export function machineName(): string {
  let flags = '';
  try {
    flags = /^flags\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '';
  } catch {
    // Without /proc/cpuinfo (not Linux), the processor's model name is the only key.
  }
  const all = cpus();
  return `${all[0]?.model ?? process.arch} x ${all.length} ${digest(flags).slice(0, 16)}`;
}

export function fileDigest(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

function fileOf(dir: string, key: CalibrationKey): string {
  return join(dir, `calibration-${digest(key).slice(0, 24)}.json`);
}

/**
 * It never throws: the engine measures for a second instead.
 * @returns the costs, or null where no usable entry exists, with a reason for the log unless none exists yet
 */
export function readCalibration(dir: string, key: CalibrationKey): { cost: CostTable | null; why: string | null } {
  const file = fileOf(dir, key);
  const { text, why } = readCacheFile(file);
  if (text === null) return { cost: null, why };
  const unusable = (reason: string) => ({ cost: null, why: reason });
  try {
    const entry: unknown = JSON.parse(text);
    if (!isValid(Entry, entry)) return unusable(`${file} does not have the shape of a calibration`);
    if (digest(entry.key) !== digest(key)) return unusable(`${file} belongs to another model or machine`);
    if (digest(entry.cost) !== entry.checksum) return unusable(`the checksum of ${file} is wrong`);
    return { cost: entry.cost, why: null };
  } catch {
    return unusable(`${file} is not JSON`);
  }
}

/** @returns the reason of a failed write, or null */
export function writeCalibration(dir: string, key: CalibrationKey, cost: CostTable): string | null {
  return writeCacheFile(fileOf(dir, key), JSON.stringify({ key, checksum: digest(cost), cost }));
}

export interface StartupCalibration extends Calibration {
  readonly costs: CostTable;
  /** How many times slower than `costs` the machine is now; 1 is as fast as `costs`. */
  readonly slowdown: number;
}

/** @param now milliseconds on a monotonic clock */
export function calibrateAtStartup(executor: Executor, options: EngineOptions, now: () => number): StartupCalibration {
  const { limits, device } = executor.model;
  const plan = calibrationPlan(options.maxRunning, options.prefillChunk, limits.capacity, device.kind);
  const measured = (): CostTable => calibrate(executor, plan, now);
  const dir = options.cacheDir;
  if (dir === undefined) return { costs: measured(), slowdown: 1, source: 'measured', note: null };
  const devices = executor.model.devices().map(({ name, driver }) => [name, driver] as const);
  const key: CalibrationKey = {
    manifest: fileDigest(join(options.modelDir, MANIFEST_FILE)),
    machine: machineName(),
    threads: options.threads,
    device: device.kind,
    ...(devices.length > 0 && { devices }),
    kernels: executor.kernels,
    runtime: loadOrt().version,
    // Earlier versions ran the points of one unit in a row, and kept disturbed points of exit blocks.
    plan: { ...plan, order: 'alternated', smooth: 'all', ...(options.promptExit === false && { promptExit: false }) },
  };
  const { cost, why } = readCalibration(dir, key);
  let reason = why;
  if (cost !== null) {
    const { ratio, stale, slowdown } = compareCosts(cost, calibrate(executor, smallest(plan), now));
    if (!stale) return { costs: cost, slowdown, source: 'cache', note: null };
    reason = `steps take ${ratio.toFixed(2)} times the cached costs, so the engine measured all costs again`;
  }
  const costs = measured();
  const notes = [reason, writeCalibration(dir, key, costs)].filter((note) => note !== null);
  return { costs, slowdown: 1, source: 'measured', note: notes.length === 0 ? null : notes.join('; ') };
}

/**
 * The cheapest point of each unit: 0.3 s for the embedded model, mostly bindings that the first request needs anyway.
 */
function smallest(plan: CalibrationPlan): CalibrationPlan {
  return { ...plan, rows: plan.rows.slice(0, 1), chunks: plan.chunks.slice(0, 1), contexts: plan.contexts.slice(0, 1) };
}

export interface CostComparison {
  /** Measured over cached time, summed over all units; the smaller ratio of decode and prefill. */
  readonly ratio: number;
  /** The cached costs must be measured again. */
  readonly stale: boolean;
  /** Initial slowdown of the cost model if the cached costs stay; 1 within the tolerance. */
  readonly slowdown: number;
}

/** Compares cached costs with measured costs of the same points; a point missing in the cache makes it stale. */
export function compareCosts(kept: CostTable, now: CostTable): CostComparison {
  const decode = ratioOf(kept, now, (unit) => unit.decode);
  const prefill = ratioOf(kept, now, (unit) => unit.prefill);
  const ratio = Math.min(decode, prefill);
  const slow = Math.max(decode, prefill);
  return {
    ratio,
    stale: !(ratio >= 1 / TOLERANCE && slow <= MAX_RATIO),
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
