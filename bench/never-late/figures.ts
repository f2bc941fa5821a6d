/** The figures of one side of bench:never-late. */
import { quantile } from '../loadgen/stats.js';
import type { CheckedRequest } from '../everyday/requests.js';
import { score } from '../everyday/score.js';
import type { Heard } from '../loadgen/ask.js';
import type { Sent } from '../loadgen/run.js';
import { meanOf } from '../loadgen/summary.js';

export interface Job {
  readonly request: CheckedRequest;
  readonly budgetMs: number;
}

export type Result = Sent<Job, Heard>;

export interface SideResult {
  /** In the order of the jobs. */
  readonly results: readonly Result[];
  /** Time on cores of the engines of upstream and net, seconds. */
  readonly engineSeconds: number;
  /** Time of nets whose answer did not go out, seconds; null for a side without nets of Sortie. */
  readonly wastedSeconds: number | null;
}

export const COLUMNS = [
  'right answers in time',
  'share of the target',
  'in time',
  'late',
  'p99 past the deadline, ms',
  'latest, ms',
  'engine core s',
  'wasted net s',
];

const isWhole = ({ answer: { error, finishReason } }: Result): boolean => error === null && finishReason !== null;
const rightOf = ({ job, answer }: Result): number => score(job.request, answer.text);

/**
 * The right answers that nets may reach: those of the upstream without faults and deadlines, times the net's share of
 * right answers where the net answers.
 * @param unhurried the upstream's answers to the same requests
 * @param accuracies by exit layer, where full depth has 1
 */
export function targetOf(
  results: readonly Result[],
  unhurried: readonly Result[],
  accuracies: ReadonlyMap<number, number>,
): number {
  const shares = results.map(({ answer: { report } }, i) => {
    const most = unhurried[i] === undefined ? NaN : rightOf(unhurried[i]);
    const exit = report?.source === 'net' ? report.plan?.exit_layer : undefined;
    return most * (exit == null ? 1 : (accuracies.get(exit) ?? 1));
  });
  return meanOf(shares);
}

/** @param target null for a side that has none; @param waits whether the clients wait for the end */
export function figuresOf(side: SideResult, target: number | null, waits: boolean): string[] {
  const { results, engineSeconds, wastedSeconds } = side;
  const share = (items: readonly unknown[]): string => (items.length / results.length).toFixed(3);
  const isInTime = (each: Result): boolean => isWhole(each) && each.answer.totalMs <= each.job.budgetMs;
  const right = meanOf(results.map((each) => (isInTime(each) ? rightOf(each) : 0)));
  const past = results.map(({ answer, job }) => Math.max(0, answer.totalMs - job.budgetMs));
  const late = [share(past.filter((ms) => ms > 0)), quantile(past, 0.99).toFixed(0), Math.max(...past).toFixed(0)];
  return [
    right.toFixed(3),
    target === null ? '-' : (right / target).toFixed(3),
    share(results.filter(isInTime)),
    ...(waits ? late : late.map(() => '-')),
    engineSeconds.toFixed(1),
    wastedSeconds === null ? '-' : wastedSeconds.toFixed(1),
  ];
}

/** The figures of a side whose answers have no deadline. */
export function unhurriedFigures({ results, engineSeconds }: SideResult): string[] {
  const right = meanOf(results.map((each) => (isWhole(each) ? rightOf(each) : 0)));
  return [right.toFixed(3), '-', '-', '-', '-', '-', engineSeconds.toFixed(1), '-'];
}
