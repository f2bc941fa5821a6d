/** Requests to one side of bench:proxy-overhead, their times, and the time of its process. */
import { performance } from 'node:perf_hooks';
import { type Dispatcher, Pool } from 'undici';
import { arrivalTimes, closedLoop, openLoop, type Send } from '../loadgen/run.js';
import { seeded } from '../loadgen/random.js';
import { quantile } from '../loadgen/stats.js';
import { coreMs, engineMs } from '../processes.js';

export interface Side {
  readonly name: string;
  readonly url: string;
  readonly model: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Null: a process that this bench did not start. */
  readonly pid: number | null;
}

/** Quantiles count from the scheduled arrival, ms. */
export interface Times {
  /** Of the last byte. */
  readonly p50: number;
  readonly p99: number;
  /** Of the first content. */
  readonly firstP50: number;
  readonly firstP99: number;
  readonly perSecond: number;
  /** Requests without a whole answer. The other figures are of the whole ones. */
  readonly failed: number;
  /** Time on cores that the process and its workers take for a request, ms; NaN for an unknown process. */
  readonly cpuMs: number;
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

/** The begin of the first content of the mock. */
const FIRST_CONTENT = '"Word';

/** @returns the instant of the first content; null for an answer without an end */
async function asked(side: Side, pool: Pool): Promise<number | null> {
  const response = await sent(side, pool);
  let text = '';
  let firstAt = NaN;
  for await (const bytes of response.body as AsyncIterable<Buffer>) {
    text += bytes.toString();
    if (Number.isNaN(firstAt) && text.includes(FIRST_CONTENT)) firstAt = performance.now();
  }
  return isWhole(response, text) ? firstAt : null;
}

async function timed(side: Side, count: number, run: (send: Send<number, number>) => Promise<unknown>): Promise<Times> {
  const pool = new Pool(side.url);
  const firsts: number[] = [];
  const times: number[] = [];
  let failed = 0;
  const startedAt = performance.now();
  const usedMs = (): number => (side.pid === null ? NaN : coreMs(side.pid) + engineMs(side.pid));
  const cpuMs = usedMs();
  await run(async (_job, scheduledAt) => {
    const firstAt = await asked(side, pool);
    if (firstAt === null) return failed++;
    firsts.push(firstAt - scheduledAt);
    return times.push(performance.now() - scheduledAt);
  });
  const seconds = (performance.now() - startedAt) / 1000;
  const spentMs = usedMs() - cpuMs;
  await pool.close();
  return {
    p50: quantile(times, 0.5),
    p99: quantile(times, 0.99),
    firstP50: quantile(firsts, 0.5),
    firstP99: quantile(firsts, 0.99),
    perSecond: times.length / seconds,
    failed,
    cpuMs: spentMs / count,
  };
}

const jobsOf = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** Clients that never pause. */
export function closedTimes(side: Side, clients: number, count: number): Promise<Times> {
  return timed(side, count, (send) => closedLoop(send, jobsOf(count), clients));
}

/** Requests of a Poisson process. */
export function openTimes(side: Side, rate: number, count: number, seed: number): Promise<Times> {
  const times = arrivalTimes(count, rate, 'poisson', seeded(seed));
  return timed(side, count, (send) => openLoop(send, jobsOf(count), times));
}
