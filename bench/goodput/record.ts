/**
 * Runs of bench:goodput with the scores of their answers, and its JSON file: the measurements of the idle machine, and one
 * entry per run. A later call with the same options adds to it, so a long bench can run in pieces.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { Sent as SentJob } from '../loadgen/run.js';
import { isMet, meanOf, type Summary as RunSummary, summaryOf as runSummaryOf } from '../loadgen/summary.js';
import type { GoodputAnswer, Job } from './job.js';
import type { Setup } from './setup.js';
import type { Side } from './side.js';

export type Sent = SentJob<Job, GoodputAnswer>;

export interface Summary extends RunSummary {
  /** Share of requests with a whole or landed answer inside their budget. */
  readonly inTime: number;
  /** Mean score of the answers, whenever they end. */
  readonly right: number;
  /** The same, where a late answer counts 0, and its standard deviation. */
  readonly rightInTime: number;
  readonly deviation: number;
  /** Mean tokens of an answer. */
  readonly tokens: number;
}

export function summaryOf(sent: readonly Sent[]): Summary {
  const timely = sent.map((each) => Number(isMet(each)));
  const values = sent.map(({ answer: { right } }, i) => (timely[i] ?? 0) * right);
  const rightInTime = meanOf(values);
  return {
    ...runSummaryOf(sent),
    inTime: meanOf(timely),
    right: meanOf(sent.map(({ answer }) => answer.right)),
    rightInTime,
    deviation: Math.sqrt(meanOf(values.map((value) => (value - rightInTime) ** 2))),
    tokens: meanOf(sent.map(({ answer }) => answer.tokens)),
  };
}

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

/** The day of a side. */
export interface DayRun extends Pick<Run, 'side' | 'kind' | 'seed' | 'requests' | 'rightInTime' | 'inTime'> {
  /** Right in time by phase; null without a request. */
  readonly phases: readonly (number | null)[];
  /** From the end of the crowd until as many requests of a window are in time as ahead of it; null: never. */
  readonly recoveryS: number | null;
}

export interface Record {
  /** Options that make runs comparable. */
  readonly options: Readonly<globalThis.Record<string, unknown>>;
  readonly setup: Setup | null;
  readonly runs: readonly Run[];
  readonly days?: readonly DayRun[];
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
