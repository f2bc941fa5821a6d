/**
 * What the bench writes down, so that a long bench can be run in pieces: what was measured of the idle machine, and one
 * entry per run; a later piece with the same options adds to it.
 *
 * Knows: the JSON file. Must not know: servers.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { BudgetClass } from '../../src/simulate/workload.js';
import type { Arrivals } from './load.js';
import type { KnownQuestion } from './natural.js';
import type { Summary } from './summary.js';

/** How requests come: open load, or from clients that never pause. */
export type Traffic = Arrivals | 'closed';

export interface Run extends Summary {
  readonly side: string;
  readonly arrivals: Traffic;
  /** Multiple of what full depth completes; null where clients never pause. */
  readonly load: number | null;
  /** Requests per second that the load sends; null where clients never pause. */
  readonly perSecond: number | null;
}

/** What full depth takes on the idle machine. */
export type Idle =
  | { readonly lengths: 'stated'; readonly classes: readonly BudgetClass[] }
  | { readonly lengths: 'natural'; readonly questions: readonly KnownQuestion[] };

/** Full depth on the idle machine, and what load 1 is. */
export interface Setup {
  /** Requests per second that full depth completes with clients that never pause. */
  readonly perSecond: number;
  readonly idle: Idle;
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
