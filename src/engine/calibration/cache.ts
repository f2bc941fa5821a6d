/**
 * Keeps what a calibration measured, so that the next start of the same model on the same machine needs none.
 *
 * Knows: files, what a measurement depends on. Must not know: how it is measured. Nothing here throws: a cache that
 * can't be read or written costs a second of measuring, and the log says why.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import Type from 'typebox';
import { Value } from 'typebox/value';
import type { CostTable } from '../../cost/table.js';
import { CostTableSchema } from '../../cost/table.js';

/** Everything that changes what a unit costs. */
export interface CalibrationKey {
  /** SHA-256 of the manifest, which holds those of all weight files. */
  readonly manifest: string;
  /** Model and flags of the processor. */
  readonly machine: string;
  readonly threads: number;
  readonly device: string;
  readonly kernels: readonly string[];
  readonly runtime: string;
  /** What was measured. */
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
    // Not Linux: the model has to do.
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
  /** Null where nothing usable is there. */
  readonly cost: CostTable | null;
  /** Why it isn't, for the log; null where there simply is none yet. */
  readonly why: string | null;
}

export function readCalibration(dir: string, key: CalibrationKey): Cached {
  const file = fileOf(dir, key);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { cost: null, why: code === 'ENOENT' ? null : `${file} can't be read (${code ?? 'unknown error'})` };
  }
  try {
    const entry: unknown = JSON.parse(text);
    if (!Value.Check(Entry, entry)) return { cost: null, why: `${file} has not the shape of a calibration` };
    if (digest(entry.key) !== digest(key)) return { cost: null, why: `${file} is of another model or machine` };
    if (digest(entry.cost) !== entry.checksum) return { cost: null, why: `the checksum of ${file} is wrong` };
    return { cost: entry.cost, why: null };
  } catch {
    return { cost: null, why: `${file} is not JSON` };
  }
}

/** Not recursive: that never returns below folders that refuse it with ENOENT, such as /proc. */
function makeDir(dir: string): void {
  try {
    mkdirSync(dir);
  } catch (error) {
    // Where it was there all along, or another server has just made it, that is no reason.
    if (!existsSync(dir)) throw error;
  }
}

/** @returns why it could not be written, or null */
export function writeCalibration(dir: string, key: CalibrationKey, cost: CostTable): string | null {
  const file = fileOf(dir, key);
  // Not by the process alone: in containers that share the folder, each server's may have the same id.
  const draft = `${file}.${process.pid}-${randomBytes(4).toString('hex')}`;
  try {
    makeDir(dirname(dir));
    makeDir(dir);
    writeFileSync(draft, JSON.stringify({ key, checksum: digest(cost), cost }));
    // Whole or not at all: another server may read it right now.
    renameSync(draft, file);
    return null;
  } catch (error) {
    removeDraft(draft);
    return `${file} can't be written (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`;
  }
}

/** A full disk leaves the beginning of one, and each start would leave another. */
function removeDraft(draft: string): void {
  try {
    rmSync(draft, { force: true });
  } catch {
    // Where nothing can be removed, nothing could be written either.
  }
}
