/** Load on a server: open (requests leave at given times) or closed (clients never pause). */
import { setTimeout as sleep } from 'node:timers/promises';
import { performance } from 'node:perf_hooks';
import { type Answered, type Asked, complete } from './client.js';

/** Arrival processes of open load. */
export type Arrivals = 'poisson' | 'bursty';

/** Requests per burst; bursts are a Poisson process at the same mean rate of requests. */
const BURST_REQUESTS = 8;

/** One request of the bench, the same for every side. */
export interface Job {
  readonly id: string;
  readonly budgetClass: string;
  readonly budgetMs: number;
  /** Tokens of the answer at full depth. */
  readonly tokens: number;
  /** Whether the request demands exactly `tokens`; otherwise an answer is complete if the model ends it. */
  readonly isExact: boolean;
  readonly asked: Asked;
}

export interface Sent {
  readonly job: Job;
  /** Milliseconds from the run's start. */
  readonly atMs: number;
  readonly answer: Answered;
}

/** The server to send requests to, and the headers for a budget in ms. */
export interface Target {
  readonly url: string;
  readonly model: string;
  readonly headers: (budgetMs: number) => Record<string, string>;
}

/** Times of arrival in ms from the start, at a mean rate of `perSecond`. */
export function arrivalTimes(count: number, perSecond: number, arrivals: Arrivals, random: () => number): number[] {
  const burst = arrivals === 'bursty' ? BURST_REQUESTS : 1;
  let at = 0;
  return Array.from({ length: count }, (_, i) => {
    if (i % burst === 0) at += (-Math.log(1 - random()) * 1000 * burst) / perSecond;
    return at;
  });
}

/** Sends every job at its time and waits for all answers. @param times ms from the start, one per job */
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

/** Runs `clients` clients; each sends its next job when it has an answer. */
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

/** Complete answers per second; in a closed loop this is the server's capacity. */
export function rateOf(sent: readonly Sent[]): number {
  const lastMs = sent.reduce((most, { atMs, answer }) => Math.max(most, atMs + answer.totalMs), 0);
  return sent.filter(({ answer }) => answer.status === 200).length / (lastMs / 1000);
}

async function send({ url, model, headers }: Target, job: Job, atMs: number): Promise<Sent> {
  return { job, atMs, answer: await complete(url, model, job.asked, headers(job.budgetMs)) };
}
