import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import { watchLoopLag } from '../../src/gateway/telemetry/loop-lag.js';
import { createSeries } from '../../src/gateway/telemetry/series.js';
import { until } from '../support/until.js';

/** Blocks the event loop. */
function block(ms: number): void {
  const until = monotonicMs() + ms;
  while (monotonicMs() < until);
}

void t.test('the gauge shows a blocked event loop at any scrape rate, and falls after the block', async (t) => {
  const series = createSeries('m');
  const lag = async (): Promise<number> => (await series.gatewayLag.get()).values[0]?.value ?? NaN;
  const stop = watchLoopLag(series, 400);
  t.teardown(stop);
  for (const end = monotonicMs() + 900; monotonicMs() < end;) {
    block(100);
    await sleep(1);
    await series.registry.metrics();
  }
  const busy = await lag();
  t.ok(busy > 0.06 && busy < 60, `${busy} s while each turn took 100 ms`);
  // On a shared machine one window may be late by itself, so the gauge may fall at a later sample. Without windows it
  // would fall only once idle samples outnumber the blocked ones a hundred times.
  await until('at rest', async () => (await lag()) < busy / 2, 100);
  stop();
  series.gatewayLag.set(7);
  await sleep(600);
  t.equal(await lag(), 7, 'stopped');
});
