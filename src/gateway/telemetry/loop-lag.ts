/**
 * Lag of the gateway's event loop.
 *
 * prom-client's own lag series start again with every scrape. A scraper that comes every 50 ms leaves five samples in
 * them, so the value that another scraper finds is random.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Series } from './series.js';

/** Interval of the samples. */
const SAMPLE_MS = 10;
/** Time for which one value of the gauge holds. */
const WINDOW_MS = 10_000;

/**
 * Sets the gauge to the 99th percentile of each window. Its timer keeps no process alive.
 * @returns a function that stops it
 */
export function watchLoopLag({ gatewayLag }: Pick<Series, 'gatewayLag'>, windowMs = WINDOW_MS): () => void {
  const samples = monitorEventLoopDelay({ resolution: SAMPLE_MS });
  samples.enable();
  const timer = setInterval(() => {
    // The histogram holds the time between two samples. Their interval itself is not lag.
    gatewayLag.set(Math.max(0, samples.percentile(99) / 1e6 - SAMPLE_MS) / 1000);
    samples.reset();
  }, windowMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    samples.disable();
  };
}
