/** The predicted wait of a new request, from the engine's steps and its silence. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { StepMessage } from '../../src/protocol/index.js';
import { watchWait } from '../../src/gateway/telemetry/wait-estimate.js';
import { monotonicMs } from '../../src/util/clock.js';
import { FakeEngine } from '../fakes/engine.js';

const step = (waitMs: number): StepMessage => ({
  ...{ type: 'step', at: monotonicMs(), planned: [], rejected: [], prompts: [], tokens: [], ended: [], work: null },
  load: { running: 1, waiting: 0, kvUsed: 0, kvCached: 0, waitMs },
});

void t.test('the last prediction, and the silence since then while a sequence is open', async (t) => {
  const engine = new FakeEngine(() => ({ tokens: [] }));
  const metrics: { oldestArrival: number | null } = { oldestArrival: null };
  const wait = watchWait(engine, metrics);
  t.equal(wait(), null, 'no engine');
  if (engine.ready !== null) engine.emit('ready', engine.ready);
  t.equal(wait(), 0);
  engine.emit('step', step(70));
  await sleep(30);
  t.equal(wait(), 70, 'no sequence is open');
  metrics.oldestArrival = monotonicMs();
  await sleep(30);
  const silent = wait() ?? 0;
  t.ok(silent >= 99 && silent < 60_000, `${silent} ms: silence counts from the arrival`);
  engine.emit('step', step(20));
  t.ok((wait() ?? 0) < 60, 'a step ends it');
  engine.emit('down', 'lost');
  t.equal(wait(), null);
});
