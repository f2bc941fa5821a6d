/** The load of an engine: its steps, and the wait of a new request. Must not know: HTTP. */
import type { Engine } from '../engine-client/engine.js';
import { monotonicMs } from '../../util/clock.js';
import type { LoadMeter } from '../../util/load-meter.js';
import type { RequestMetrics } from './requests.js';

/**
 * Counts the steps of an engine for load reports.
 * @param floor the shallowest exit layer of a request that states no depth
 */
export function meterSteps(engine: Engine, meter: LoadMeter, floor: number): void {
  let exits: readonly number[] = [];
  engine.on('ready', (ready) => {
    ({ exits } = ready);
  });
  engine.on('step', ({ tokens, work }) => {
    const floorMs = work?.exitMs.reduce((sum, ms, exit) => sum + ms * Math.min(1, floor / (exits[exit] ?? floor)), 0);
    meter.step(tokens.length, floorMs ?? 0);
  });
}

/**
 * Watches the wait of a new request, as the engine predicts it and as its silence shows, at an engine that reports its
 * predicted wait (EngineOptions.waitIntervalMs). The time without a step counts while a sequence is open: an engine
 * that is stopped predicts nothing.
 * @returns a function that gives the wait in ms; null without a ready engine
 */
export function watchWait(engine: Engine, metrics: Pick<RequestMetrics, 'oldestArrival'>): () => number | null {
  let last: { readonly waitMs: number; readonly at: number } | null = null;
  engine.on('ready', () => {
    last = { waitMs: 0, at: monotonicMs() };
  });
  engine.on('step', ({ at, load: { waitMs = 0 } }) => {
    last = { waitMs, at };
  });
  engine.on('down', () => {
    last = null;
  });
  return () => {
    if (last === null) return null;
    const { oldestArrival } = metrics;
    const silentMs = oldestArrival === null ? 0 : monotonicMs() - Math.max(oldestArrival, last.at);
    return last.waitMs + Math.max(0, silentMs);
  };
}
