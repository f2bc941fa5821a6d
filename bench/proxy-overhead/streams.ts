/** Memory of a gateway with many open streams. */
import { setTimeout as delay } from 'node:timers/promises';
import { Pool } from 'undici';
import { monotonicMs } from '../../src/util/clock.js';
import { meanOf } from '../loadgen/summary.js';
import { residentMb } from '../processes.js';
import { isWhole, type Side, sent } from './load.js';

/** Streams that begin at one time. */
const AT_ONCE = 50;
const PAUSE_MS = 100;
const SAMPLE_MS = 1000;

export interface StreamsResult {
  readonly lost: number;
  /** Resident memory in MB: idle, then the mean of the first and of the last third of the time with all streams. */
  readonly idleMb: number;
  readonly firstMb: number;
  readonly lastMb: number;
  /** Most bytes of memory at one time, MB. */
  readonly mostMb: number;
}

async function ends(side: Side, pool: Pool): Promise<boolean> {
  try {
    const response = await sent(side, pool);
    let end = '';
    for await (const bytes of response.body as AsyncIterable<Buffer>) end = (end + bytes.toString()).slice(-20);
    return isWhole(response, end);
  } catch {
    return false;
  }
}

/** Opens the streams, and waits for their ends. @param pid of the gateway */
export async function openStreams(side: Side, pid: number, count: number): Promise<StreamsResult> {
  const idleMb = residentMb(pid);
  const pool = new Pool(side.url, { headersTimeout: 0, bodyTimeout: 0 });
  const samples: { readonly at: number; readonly mb: number }[] = [];
  const sampler = setInterval(() => samples.push({ at: monotonicMs(), mb: residentMb(pid) }), SAMPLE_MS);
  const streams: Promise<boolean>[] = [];
  let firstEnd = Infinity;
  while (streams.length < count) {
    for (let begun = 0; begun < AT_ONCE && streams.length < count; begun++) {
      const stream = ends(side, pool).finally(() => (firstEnd = Math.min(firstEnd, monotonicMs())));
      streams.push(stream);
    }
    await delay(PAUSE_MS);
  }
  const openAt = monotonicMs();
  const wholes = await Promise.all(streams);
  clearInterval(sampler);
  await pool.close();
  const whole = samples.filter(({ at }) => at >= openAt && at < firstEnd).map(({ mb }) => mb);
  const third = Math.ceil(whole.length / 3);
  return {
    lost: wholes.filter((isWhole) => !isWhole).length,
    idleMb,
    firstMb: meanOf(whole.slice(0, third)),
    lastMb: meanOf(whole.slice(-third)),
    mostMb: Math.max(...samples.map(({ mb }) => mb)),
  };
}
