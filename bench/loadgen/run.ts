/** Load on a server: open (requests leave at given times) or closed (clients never pause). */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answered } from './ask.js';

export type Arrivals = 'poisson' | 'bursts';

/** Requests per burst; bursts are a Poisson process at the same mean rate of requests. */
const BURST_REQUESTS = 8;

/** Times of arrival in ms from the start, at a mean rate of `perSecond`. */
export function arrivalTimes(count: number, perSecond: number, arrivals: Arrivals, random: () => number): number[] {
  const size = arrivals === 'bursts' ? BURST_REQUESTS : 1;
  let at = 0;
  return Array.from({ length: count }, (_, i) => {
    if (i % size === 0) at += (-Math.log(1 - random()) * 1000 * size) / perSecond;
    return at;
  });
}

export interface Sent<Job, Answer = Answered> {
  readonly job: Job;
  /** Scheduled arrival in ms from the run's start. */
  readonly atMs: number;
  readonly answer: Answer;
}

/** Sends a job. @param scheduledAt instant on the clock of `performance` that its times count from */
export type Send<Job, Answer = Answered> = (job: Job, scheduledAt: number) => Promise<Answer>;

export interface Watch<Job, Answer = Answered> {
  /** Called when a request leaves, and when its answer ends. */
  readonly onSent?: () => void;
  readonly onAnswer?: (sent: Sent<Job, Answer>) => void;
  /** Ends the run: no further request leaves. */
  readonly signal?: AbortSignal;
}

/** Sends every job at its time and waits for all answers. @param times ms from the start, one per job */
export async function openLoop<Job, Answer = Answered>(
  send: Send<Job, Answer>,
  jobs: readonly Job[],
  times: readonly number[],
  watch: Watch<Job, Answer> = {},
): Promise<Sent<Job, Answer>[]> {
  const start = performance.now();
  const sent: Promise<Sent<Job, Answer>>[] = [];
  for (const [i, job] of jobs.entries()) {
    const atMs = times[i] ?? 0;
    const wait = atMs - (performance.now() - start);
    if (wait > 1) await sleep(wait, undefined, watch.signal && { signal: watch.signal }).catch(() => undefined);
    if (watch.signal?.aborted === true) break;
    sent.push(watched(send, job, start, atMs, watch));
  }
  return Promise.all(sent);
}

/** Runs `clients` clients; each sends its next job when it has an answer. */
export async function closedLoop<Job, Answer = Answered>(
  send: Send<Job, Answer>,
  jobs: readonly Job[],
  clients: number,
  watch: Watch<Job, Answer> = {},
): Promise<Sent<Job, Answer>[]> {
  const start = performance.now();
  const sent: Sent<Job, Answer>[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: clients }, async () => {
      for (let job = jobs[next++]; job !== undefined && watch.signal?.aborted !== true; job = jobs[next++])
        sent.push(await watched(send, job, start, performance.now() - start, watch));
    }),
  );
  return sent;
}

async function watched<Job, Answer>(
  send: Send<Job, Answer>,
  job: Job,
  start: number,
  atMs: number,
  { onSent, onAnswer }: Watch<Job, Answer>,
): Promise<Sent<Job, Answer>> {
  onSent?.();
  const sent = { job, atMs, answer: await send(job, start + atMs) };
  onAnswer?.(sent);
  return sent;
}

/** Milliseconds from the run's start to the end of its last answer. */
export function durationMs(sent: readonly Sent<unknown>[]): number {
  return sent.reduce((most, { atMs, answer }) => Math.max(most, atMs + answer.totalMs), 0);
}

/** Complete answers per second; in a closed loop this is the server's capacity. */
export function rateOf(sent: readonly Sent<unknown>[]): number {
  return sent.filter(({ answer }) => answer.error === null).length / (durationMs(sent) / 1000);
}
