/** The setup of bench:goodput: the times of full depth alone, and the request rate of load 1. */
import { median } from '../loadgen/stats.js';
import type { CheckedRequest } from '../everyday/requests.js';
import { closedLoop, rateOf } from '../loadgen/run.js';
import { meanOf } from '../loadgen/summary.js';
import { ENDLESS, type JobForm, jobsOf, sender } from './job.js';
import { type SidedModel, sideOf } from './side.js';

/** Full depth on the idle machine. */
export interface Setup {
  /** Median over the questions of the time of an answer without other requests, in ms. */
  readonly medianMs: number;
  /** Mean tokens of these answers. */
  readonly tokens: number;
  /** Requests per second that full depth completes with clients that never pause. */
  readonly perSecond: number;
}

/**
 * Asks one question after the other, then many at once.
 * @param url of an idle server with so many slots. @param requests in the measurement of capacity
 */
export async function measureSetup(
  url: string,
  model: SidedModel,
  questions: readonly CheckedRequest[],
  slots: number,
  requests: number,
  form: JobForm,
): Promise<Setup> {
  const send = sender(url, model.name, sideOf(`fixed ${model.layers.at(-1)}`, model));
  const jobs = (count: number) => jobsOf(questions, ENDLESS, count, 0, form);
  // The first answers allocate memory and bindings that later answers reuse.
  await closedLoop(send, jobs(2), 1);
  const alone = await closedLoop(send, jobs(questions.length), 1);
  const failed = alone.find(({ answer }) => answer.error !== null);
  if (failed !== undefined)
    throw new Error(`the server failed "${failed.job.question}": ${failed.answer.error?.message}`);
  const medianMs = median(alone.map(({ answer }) => answer.totalMs));
  const tokens = meanOf(alone.map(({ answer }) => answer.tokens));
  return { medianMs, tokens, perSecond: rateOf(await closedLoop(send, jobs(requests), slots)) };
}
