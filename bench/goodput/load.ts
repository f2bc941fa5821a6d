/**
 * Load on a server: open, where requests leave when their time has come, or closed, where clients never pause.
 *
 * Knows: arrival processes, one client. Must not know: which server answers.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { performance } from 'node:perf_hooks';
import { type Answered, type Asked, complete } from './client.js';

/** Arrival processes of open load. */
export type Arrivals = 'poisson' | 'bursty';

/** Requests that come together in a burst; bursts are a Poisson process of their own at the same mean rate. */
const BURST = 8;

/** One request of the bench, whichever side answers it. */
export interface Job {
  readonly id: string;
  readonly budgetClass: string;
  readonly budgetMs: number;
  /** Tokens of full depth's answer. */
  readonly tokens: number;
  /** Whether the request asks for exactly so many tokens; otherwise an answer is whole where it ends by itself. */
  readonly isExact: boolean;
  readonly asked: Asked;
}

export interface Sent {
  readonly job: Job;
  /** Milliseconds from the run's start. */
  readonly atMs: number;
  readonly answer: Answered;
}

/** Where requests go, and how each asks for its depth by its budget in ms. */
export interface Target {
  readonly url: string;
  readonly model: string;
  readonly headers: (budgetMs: number) => Record<string, string>;
}

/** Instants of arrival, ms from the start, at a mean of `perSecond`. */
export function arrivalTimes(count: number, perSecond: number, arrivals: Arrivals, random: () => number): number[] {
  const burst = arrivals === 'bursty' ? BURST : 1;
  let at = 0;
  return Array.from({ length: count }, (_, i) => {
    if (i % burst === 0) at += (-Math.log(1 - random()) * 1000 * burst) / perSecond;
    return at;
  });
}

/** Sends every job at its instant and waits for all answers. @param times ms from the start, one of each job */
export async function openLoop(target: Target, jobs: readonly Job[], times: readonly number[]): Promise<Sent[]> {
  const start = performance.now();
  const sent: Promise<Sent>[] = [];
  for (const [i, job] of jobs.entries()) {
    const atMs = times[i] ?? 0;
    const wait = atMs - (performance.now() - start);
    if (wait > 1) await sleep(wait);
    sent.push(send(target, job, atMs));
  }
  return Promise.all(sent);
}

/** So many clients send the jobs, each its next one as soon as it has an answer. */
export async function closedLoop(target: Target, jobs: readonly Job[], clients: number): Promise<Sent[]> {
  const start = performance.now();
  const sent: Sent[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: clients }, async () => {
      for (let job = jobs[next++]; job !== undefined; job = jobs[next++])
        sent.push(await send(target, job, performance.now() - start));
    }),
  );
  return sent;
}

/** Requests per second that came to a full answer: of a closed loop, the server's capacity. */
export function rateOf(sent: readonly Sent[]): number {
  const lastMs = sent.reduce((most, { atMs, answer }) => Math.max(most, atMs + answer.totalMs), 0);
  return sent.filter(({ answer }) => answer.status === 200).length / (lastMs / 1000);
}

async function send({ url, model, headers }: Target, job: Job, atMs: number): Promise<Sent> {
  return { job, atMs, answer: await complete(url, model, job.asked, headers(job.budgetMs)) };
}
