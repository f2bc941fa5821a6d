/** The setup of a bench under load: full depth on the idle machine, and the request rate of load 1. */
import { closedLoop, rateOf } from '../../src/load/run.js';
import type { Manifest } from '../../src/model/manifest.js';
import { sender } from './job.js';
import type { Setup } from './record.js';
import type { Source } from './source.js';

/** Jobs in the measurement of capacity. */
const SAMPLE_JOBS = 60;

/** @param url of an idle server with so many slots */
export async function measureSetup(url: string, manifest: Manifest, source: Source, slots: number): Promise<Setup> {
  const deepest = manifest.exits.at(-1)?.layer ?? 0;
  const idle = await source.measure(url, manifest, deepest);
  const send = sender(url, manifest.name, () => ({ 'x-exit-layer': String(deepest) }));
  const perSecond = rateOf(await closedLoop(send, source.jobs(idle, manifest, SAMPLE_JOBS), slots));
  console.error(`full depth completes ${perSecond.toFixed(2)} requests/s with ${slots} clients`);
  return { perSecond, idle };
}
