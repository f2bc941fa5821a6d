/**
 * The JSON file of bench:goodput: the measurements of the idle machine, and one entry per run. A later call with the
 * same options adds to it, so a long bench can run in pieces.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { Arrivals } from '../loadgen/arrivals.js';
import type { Setup } from './setup.js';
import type { Side } from './side.js';
import type { Summary } from './summary.js';

/** Arrival process: open load, or clients that never pause. */
export type Traffic = Arrivals | 'closed';

export interface Run extends Summary, Pick<Side, 'kind'> {
  /** Name of the side, with the label of the call. */
  readonly side: string;
  readonly arrivals: Traffic;
  /** Multiple of the throughput of full depth; null for clients that never pause. */
  readonly load: number | null;
  readonly seed: number;
}

export interface Record {
  /** Options that make runs comparable. */
  readonly options: Readonly<globalThis.Record<string, unknown>>;
  readonly setup: Setup | null;
  readonly runs: readonly Run[];
}

/** The content of the file if it was written with the options of the empty record; otherwise that record. */
export function earlier<R extends Pick<Record, 'options'>>(file: string, empty: R): R {
  if (!existsSync(file)) return empty;
  const found = JSON.parse(readFileSync(file, 'utf8')) as R;
  return JSON.stringify(found.options) === JSON.stringify(empty.options) ? found : empty;
}

/** Adds a run to the record; it replaces an earlier run of the same side, arrivals, load and seed. */
export function withRun(record: Record, run: Run): Record {
  const isSame = (each: Run): boolean =>
    each.side === run.side && each.arrivals === run.arrivals && each.load === run.load && each.seed === run.seed;
  return { ...record, runs: [...record.runs.filter((each) => !isSame(each)), run] };
}
