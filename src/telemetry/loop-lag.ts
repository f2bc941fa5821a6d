/**
 * How late the gateway's event loop comes to what is due.
 *
 * Knows: Node's measure of it. Must not know: who reads the gauge, and when. prom-client's own series of this begin anew
 * with every scrape: with a picker that scrapes every 50 ms they hold five looks, and what another scrape finds is chance.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Series } from './series.js';

/** How often it looks, and for how long one value of the gauge holds, ms. */
const LOOK_MS = 10;
const WINDOW_MS = 10_000;

/**
 * Sets the gauge to the 99th percentile of each window. Keeps no process alive.
 * @returns ends it
 */
export function watchLoopLag({ gatewayLag }: Pick<Series, 'gatewayLag'>, windowMs = WINDOW_MS): () => void {
  const looks = monitorEventLoopDelay({ resolution: LOOK_MS });
  looks.enable();
  const timer = setInterval(() => {
    // What is measured is the time between two looks; that they should take is no lag.
    gatewayLag.set(Math.max(0, looks.percentile(99) / 1e6 - LOOK_MS) / 1000);
    looks.reset();
  }, windowMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    looks.disable();
  };
}
