/**
 * What the bench writes down, so that a long bench can be run in pieces: what was measured of the idle machine, and one
 * entry per run; a later piece with the same options adds to it.
 *
 * Knows: the JSON file. Must not know: servers.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { BudgetClass } from '../../src/simulate/workload.js';
import type { Arrivals } from './load.js';
import type { Summary } from './summary.js';

export interface Run extends Summary {
  readonly side: string;
  readonly arrivals: Arrivals;
  readonly load: number;
  readonly perSecond: number;
}

/** Full depth on the idle machine, and what load 1 is. */
export interface Setup {
  readonly perSecond: number;
  readonly classes: readonly BudgetClass[];
}

export interface Record {
  /** Options that make runs comparable. */
  readonly options: Readonly<globalThis.Record<string, unknown>>;
  readonly setup: Setup | null;
  readonly runs: readonly Run[];
}

/** What the file holds if it was written with these options, else nothing. */
export function earlier(file: string, options: Record['options']): Record {
  const none: Record = { options, setup: null, runs: [] };
  if (!existsSync(file)) return none;
  const found = JSON.parse(readFileSync(file, 'utf8')) as Record;
  return JSON.stringify(found.options) === JSON.stringify(options) ? found : none;
}

/** The record with a run, which takes the place of an earlier one of the same side, arrivals and load. */
export function withRun(record: Record, run: Run): Record {
  const isSame = (each: Run): boolean =>
    each.side === run.side && each.arrivals === run.arrivals && each.load === run.load;
  return { ...record, runs: [...record.runs.filter((each) => !isSame(each)), run] };
}
