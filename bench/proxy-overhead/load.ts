/** Requests to one side of bench:proxy-overhead, their times, and the time of its process. */
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { type Dispatcher, Pool } from 'undici';
import { arrivalTimes } from '../../src/loadgen/arrivals.js';
import { closedLoop, openLoop, type Send } from '../../src/loadgen/run.js';
import { seeded } from '../../src/util/random.js';
import { quantile } from '../../src/util/stats.js';

export interface Side {
  readonly name: string;
  readonly url: string;
  readonly model: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Null: a process that this bench did not start. */
  readonly pid: number | null;
}

export interface Times {
  readonly p50: number;
  readonly p99: number;
  readonly perSecond: number;
  /** Time on cores that the process takes for a request, ms; NaN for an unknown process. */
  readonly cpuMs: number;
}

/** Linux counts the time of processes in hundredths of a second. */
const TICK_MS = 10;

/** Time on cores so far of all threads of a process, ms. */
function cpuMsOf(pid: number): number {
  // The name of the program, in parentheses, may have spaces.
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(/\) (?!.*\) )/);
  const [user = NaN, system = NaN] = fields.split(' ').slice(11, 13).map(Number);
  return (user + system) * TICK_MS;
}

/** Sends a streamed chat. */
export function sent({ model, headers }: Side, pool: Pool): Promise<Dispatcher.ResponseData> {
  const body = JSON.stringify({ model, stream: true, messages: [{ role: 'user', content: 'Say something.' }] });
  const all = { 'content-type': 'application/json', ...headers };
  return pool.request({ method: 'POST', path: '/v1/chat/completions', headers: all, body });
}

/** Whether a response is a whole stream. @param end of its text */
export const isWhole = ({ statusCode }: Dispatcher.ResponseData, end: string): boolean =>
  statusCode === 200 && end.endsWith('data: [DONE]\n\n');

/** @throws Error for an answer without an end */
async function asked(side: Side, pool: Pool): Promise<void> {
  const response = await sent(side, pool);
  const text = await response.body.text();
  if (!isWhole(response, text)) throw new Error(`status ${response.statusCode}: ${text.slice(-200)}`);
}

async function timed(side: Side, count: number, run: (send: Send<number, number>) => Promise<unknown>): Promise<Times> {
  const pool = new Pool(side.url);
  const times: number[] = [];
  const startedAt = performance.now();
  const cpuMs = side.pid === null ? NaN : cpuMsOf(side.pid);
  await run(async (_job, scheduledAt) => {
    await asked(side, pool);
    return times.push(performance.now() - scheduledAt);
  });
  const seconds = (performance.now() - startedAt) / 1000;
  const usedMs = side.pid === null ? NaN : cpuMsOf(side.pid) - cpuMs;
  await pool.close();
  return {
    p50: quantile(times, 0.5),
    p99: quantile(times, 0.99),
    perSecond: count / seconds,
    cpuMs: usedMs / count,
  };
}

const jobsOf = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** Clients that never pause. */
export function closedTimes(side: Side, clients: number, count: number): Promise<Times> {
  return timed(side, count, (send) => closedLoop(send, jobsOf(count), clients));
}

/** Requests of a Poisson process. Times count from the scheduled arrival. */
export function openTimes(side: Side, rate: number, count: number, seed: number): Promise<Times> {
  const times = arrivalTimes(count, rate, 'poisson', seeded(seed));
  return timed(side, count, (send) => openLoop(send, jobsOf(count), times));
}
