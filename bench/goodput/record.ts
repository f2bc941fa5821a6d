/**
 * The JSON file of bench:goodput: the measurements of the idle machine, and one entry per run. A later call with the
 * same options adds to it, so a long bench can run in pieces.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { Setup } from './setup.js';
import type { Side } from './side.js';
import type { Summary } from './summary.js';

/** Requests of all sides in turn. */
export interface Plan {
  /** Multiple of the throughput of full depth. */
  readonly load: number;
  readonly seed: number;
}

export interface Run extends Plan, Summary, Pick<Side, 'kind'> {
  /** Name of the side, with the label of the call. */
  readonly side: string;
}

export interface Record {
  /** Options that make runs comparable. */
  readonly options: Readonly<globalThis.Record<string, unknown>>;
  readonly setup: Setup | null;
  readonly runs: readonly Run[];
}

/** The content of the file if it was written with the options of the empty record; otherwise that record. */
export function earlier(file: string, empty: Record): Record {
  if (!existsSync(file)) return empty;
  const found = JSON.parse(readFileSync(file, 'utf8')) as Record;
  return JSON.stringify(found.options) === JSON.stringify(empty.options) ? found : empty;
}

/** Adds a run to the record; it replaces an earlier run of the same side, load and seed. */
export function withRun(record: Record, run: Run): Record {
  const isSame = ({ side, load, seed }: Run): boolean => side === run.side && load === run.load && seed === run.seed;
  return { ...record, runs: [...record.runs.filter((each) => !isSame(each)), run] };
}
