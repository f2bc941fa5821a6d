/**
 * How long the steps of a replica take during a run, as multiples of its cost table. Other processes, and the other
 * replicas, change it all the time.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** Time between two readings of a replica's metrics, ms. */
const INTERVAL_MS = 250;

export interface Speed {
  /** Milliseconds from the start of the run. */
  readonly atMs: number;
  /** Time of the steps since the last reading, over that of the table. */
  readonly factor: number;
}

/** Sums since the start of the server. */
interface Reading {
  readonly steps: number;
  /** Actual over predicted time, summed over the steps. The prediction has the learned slowdown. */
  readonly ratios: number;
  readonly slowdown: number;
}

async function read(url: string): Promise<Reading> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const valueOf = (name: string): number =>
    Number(new RegExp(`^sortie_engine_${name}(?:\\{.*\\})? (\\S+)$`, 'm').exec(text)?.[1] ?? NaN);
  const [steps, ratios] = [valueOf('step_drift_ratio_count'), valueOf('step_drift_ratio_sum')];
  return { steps, ratios, slowdown: valueOf('slowdown_ratio') };
}

/** Reads a replica's speed until the signal. @param start instant on the clock of `performance` */
export async function speedsOf(url: string, start: number, signal: AbortSignal): Promise<Speed[]> {
  const speeds: Speed[] = [];
  let last = await read(url);
  while (!signal.aborted) {
    await sleep(INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    const next = await read(url);
    const steps = next.steps - last.steps;
    const slowdown = (last.slowdown + next.slowdown) / 2;
    if (steps > 0)
      speeds.push({ atMs: performance.now() - start, factor: ((next.ratios - last.ratios) / steps) * slowdown });
    last = next;
  }
  return speeds;
}

/** @returns the factor at a time that does not decrease from call to call; between two readings, that of the later one */
export function factorAt(speeds: readonly Speed[]): (atMs: number) => number {
  let next = 0;
  return (atMs) => {
    while (next < speeds.length - 1 && (speeds[next]?.atMs ?? 0) < atMs) next++;
    return speeds[next]?.factor ?? 1;
  };
}
