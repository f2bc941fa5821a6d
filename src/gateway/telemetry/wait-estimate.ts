/** The wait of a new request. Must not know: HTTP. */
import type { Engine } from '../engine-client/engine.js';
import { monotonicMs } from '../../util/clock.js';
import type { RequestMetrics } from './requests.js';

/**
 * Watches the wait of a new request, as the engine predicts it and as its silence shows. The time without a step counts
 * while a sequence is open: an engine that is stopped predicts nothing.
 * @returns a function that gives the wait in ms; null without a ready engine
 */
export function watchWait(engine: Engine, metrics: Pick<RequestMetrics, 'oldestArrival'>): () => number | null {
  let last: { readonly waitMs: number; readonly at: number } | null = null;
  engine.on('ready', () => {
    last = { waitMs: 0, at: monotonicMs() };
  });
  engine.on('step', ({ at, load: { waitMs } }) => {
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
