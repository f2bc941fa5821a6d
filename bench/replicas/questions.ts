/** The questions of bench:goodput to several replicas: the share of right answers in time. */
import { arrivalTimes } from '../loadgen/arrivals.js';
import { openLoop } from '../loadgen/run.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { seeded } from '../../src/util/random.js';
import { budgetsOf, checkedQuestions, jobsOf, sender } from '../goodput/job.js';
import { measureSetup, type Setup } from '../goodput/setup.js';
import { modelOf, sideOf } from '../goodput/side.js';
import { type Summary, summaryOf } from '../goodput/summary.js';
import { EMBEDDED } from '../options.js';

const questions = checkedQuestions('held-out');
const model = modelOf(loadManifest(EMBEDDED));
const ROUTED = sideOf('routed', model);
/** Sequences and requests in the measurement of one replica's throughput. */
const [SLOTS, SAMPLE] = [16, 120];

/** The times of one replica. */
export const setupOf = (url: string): Promise<Setup> => measureSetup(url, model, questions, SLOTS, SAMPLE);

/** @param rate multiple of one replica's throughput at full depth. @param urls get the requests in turns */
export async function rightInTime(
  urls: readonly string[],
  { medianMs, perSecond }: Setup,
  { rate, seconds, seed }: { readonly rate: number; readonly seconds: number; readonly seed: number },
): Promise<Summary> {
  const count = Math.round(rate * perSecond * seconds);
  const jobs = jobsOf(questions, budgetsOf('1x,2x,4x', medianMs), count, seed);
  const senders = urls.map((url) => sender(url, model.name, ROUTED));
  let next = 0;
  const send = (...sent: Parameters<(typeof senders)[number]>) => {
    const one = senders[next++ % senders.length];
    if (one === undefined) throw new Error('there must be at least one address');
    return one(...sent);
  };
  const times = arrivalTimes(count, rate * perSecond, 'poisson', seeded(seed + 2));
  return summaryOf(await openLoop(send, jobs, times));
}
