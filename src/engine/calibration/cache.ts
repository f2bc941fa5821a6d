/**
 * Stores measured costs, so that the next start of the same model on the same machine needs no calibration.
 *
 * Knows: files, and the inputs that a measurement depends on. Must not know: how costs are measured.
 * No function here throws when the cache cannot be read or written: the engine measures for a second, and logs why.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { isValid, Type } from '../../util/schema.js';
import type { CostTable } from '../scheduler/cost/table.js';
import { CostTableSchema } from '../scheduler/cost/table.js';
import { readCacheFile, writeCacheFile } from '../../util/cache-file.js';

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

const Entry = Type.Object({
  key: Type.Unknown(),
  checksum: Type.String(),
  cost: CostTableSchema,
});

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

export interface Cached {
  /** Null where no usable entry exists. */
  readonly cost: CostTable | null;
  /** Reason for the log; null with a cost, and where no entry exists yet. */
  readonly why: string | null;
}

export function readCalibration(dir: string, key: CalibrationKey): Cached {
  const file = fileOf(dir, key);
  const { text, why } = readCacheFile(file);
  if (text === null) return { cost: null, why };
  try {
    const entry: unknown = JSON.parse(text);
    if (!isValid(Entry, entry)) return { cost: null, why: `${file} does not have the shape of a calibration` };
    if (digest(entry.key) !== digest(key)) return { cost: null, why: `${file} belongs to another model or machine` };
    if (digest(entry.cost) !== entry.checksum) return { cost: null, why: `the checksum of ${file} is wrong` };
    return { cost: entry.cost, why: null };
  } catch {
    return { cost: null, why: `${file} is not JSON` };
  }
}

/** @returns the reason of a failed write, or null */
export function writeCalibration(dir: string, key: CalibrationKey, cost: CostTable): string | null {
  return writeCacheFile(fileOf(dir, key), JSON.stringify({ key, checksum: digest(cost), cost }));
}
