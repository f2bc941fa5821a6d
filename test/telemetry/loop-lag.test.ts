import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import { watchLoopLag } from '../../src/telemetry/loop-lag.js';
import { createSeries } from '../../src/telemetry/series.js';

/** Holds the event loop up. */
function block(ms: number): void {
  const until = monotonicMs() + ms;
  while (monotonicMs() < until);
}

void t.test('a loop that is held up shows, however often it is scraped, until it is not any more', async (t) => {
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
  t.ok(busy > 0.06 && busy < 5, `${busy} s while each turn took 100 ms`);
  // On a machine that is shared one window may be late by itself: the gauge has to come down, if not at the first look
  // (nor only when looks at rest outnumber the others a hundred times, as without windows).
  let idle = busy;
  for (const end = monotonicMs() + 5000; idle >= busy / 2 && monotonicMs() < end;) {
    await sleep(100);
    idle = await lag();
  }
  t.ok(idle < busy / 2, `${idle} s at rest`);
  stop();
  series.gatewayLag.set(7);
  await sleep(600);
  t.equal(await lag(), 7, 'ended');
});
