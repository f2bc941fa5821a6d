/** Lines that bench:goodput prints. */
import type { Sent } from '../../src/load/run.js';
import type { Job } from './job.js';
import type { Run } from './record.js';
import { isMet } from './summary.js';

const percent = (share: number | null): string => (share === null ? '-' : `${(100 * share).toFixed(1)}%`);
const whole = (ms: number | null): string => ms?.toFixed(0) ?? '-';

/** One run as a line. */
export function lineOf(run: Run): string {
  return [
    `${run.arrivals} ${run.load === null ? '' : `${run.load}x `}${run.side}: ${percent(run.attainment)} in budget`,
    `of ${run.guaranteed ?? '-'} guaranteed ${percent(run.attainmentOfGuaranteed)}`,
    `exit ${run.meanExit.toFixed(1)}`,
    `quality ${run.meanQuality.toFixed(3)}`,
    `goodput ${run.goodput.toFixed(2)}/s`,
    `ttft p99 ${run.ttftP99Ms.toFixed(0)} ms`,
    `prediction error ${percent(run.predictionError)}`,
    `inside the interval ${percent(run.insideInterval)}`,
    `latest ${run.latestMs.toFixed(0)} ms`,
    `failed ${run.failed}`,
  ].join(', ');
}

/** A line for each request that missed its budget. */
export function missLines(sent: readonly Sent<Job>[]): string[] {
  return sent
    .filter((each) => !isMet(each))
    .map(({ job, answer }) =>
      [
        `  ${job.id} ${job.budgetClass} ${answer.serviceClass ?? '-'} ${answer.finishReason ?? '-'} ${answer.tokens} tokens, full depth alone ${job.tokens}, budget ${whole(job.budgetMs)}`,
        `took ${whole(answer.totalMs)} (server says ${whole(answer.actualMs)}, queue ${whole(answer.queueMs)})`,
        `ttft ${whole(answer.ttftMs)} predicted ${whole(answer.predictedMs)} exits ${JSON.stringify(answer.exits)}`,
      ].join(' '),
    );
}
