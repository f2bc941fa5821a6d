/** The load of a server for balancers, from its steps. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { LoadMeter } from '../../src/util/load-meter.js';
import type { ReadyMessage, StepMessage } from '../../src/protocol/index.js';
import { meterSteps } from '../../src/gateway/telemetry/wait-estimate.js';
import { monotonicMs } from '../../src/util/clock.js';
import { FakeEngine } from '../fakes/engine.js';

/** Layers of the exits. The first one is the shallowest exit of a request. */
const EXITS = [10, 30];

interface Fixture {
  readonly meter: LoadMeter;
  waitMs: number | null;
  left: number;
}

function fixture(): Fixture {
  const state: { waitMs: number | null; left: number } = { waitMs: 0, left: 0 };
  const meter = new LoadMeter(
    () => state.waitMs,
    () => state.left,
    0,
  );
  return Object.assign(state, { meter });
}

/** Two tokens each 100 ms, in steps with this time at the shallowest exit. @returns the end */
function run({ meter }: Fixture, floorMs: number, from: number, seconds: number): number {
  const end = from + seconds * 1000;
  for (let now = from; now < end; now += 100) meter.step(2, floorMs, now);
  return end;
}

void t.test('headroom is the share of the time in which no step runs', async (t) => {
  const shallow = fixture();
  const atShallow = shallow.meter.read(run(shallow, 50, 0, 40));
  t.ok(
    Math.abs((atShallow?.headroom ?? NaN) - 0.5) < 0.02,
    `${atShallow?.headroom} of an engine that works half the time`,
  );
  t.ok(Math.abs((atShallow?.tokensPerS ?? NaN) - 20) < 1, `${atShallow?.tokensPerS} tokens/s`);
});

void t.test('time at deeper exits counts as far as the shallowest one would take it', async (t) => {
  const engine = new FakeEngine(() => ({ tokens: [] }));
  const start = monotonicMs();
  const meter = new LoadMeter(
    () => 0,
    () => 0,
    start,
  );
  meterSteps(engine, meter, 10);
  engine.emit('ready', { exits: EXITS } as unknown as ReadyMessage);
  await sleep(50);
  engine.emit('step', { tokens: [], work: { exitMs: [2, 30] } } as unknown as StepMessage);
  const now = monotonicMs();
  const busyMs = (1 - (meter.read(now)?.headroom ?? NaN)) * 8000 * (1 - Math.exp(-(now - start) / 8000));
  t.ok(Math.abs(busyMs - 12) < 3, `${busyMs} ms`);
  engine.emit('step', { tokens: [], work: null } as unknown as StepMessage);
});

void t.test('the first seconds of a server are not averaged with the time without it', async (t) => {
  const young = fixture();
  const load = young.meter.read(run(young, 50, 0, 1));
  t.ok(Math.abs((load?.headroom ?? NaN) - 0.5) < 0.05, `${load?.headroom}`);
  t.ok(Math.abs((load?.tokensPerS ?? NaN) - 20) < 1.5, `${load?.tokensPerS}`);
});

void t.test('the backlog is the wait, and the held tokens at the speed of the shallowest exit', async (t) => {
  const held = fixture();
  const now = run(held, 50, 0, 40);
  t.equal(held.meter.read(now)?.backlogS, 0);
  held.left = 80;
  held.waitMs = 500;
  // 2 tokens in 50 ms are 40 a second.
  const load = held.meter.read(run(held, 50, now, 60));
  t.ok(Math.abs((load?.backlogS ?? NaN) - 2.5) < 0.05, `${load?.backlogS} s`);
  t.equal(load?.expectedTokens, 80);
  held.left = 0;
  held.waitMs = 0;
  const later = held.meter.read(now + 120_000);
  t.ok((later?.backlogS ?? NaN) < 0.35, 'an idle server forgets');
  t.ok((later?.headroom ?? NaN) > 0.99);
  held.waitMs = null;
  t.equal(held.meter.read(now + 130_000), null, 'without an engine there is no load');
});

void t.test('a server without a step has an empty report', async (t) => {
  const { meter } = fixture();
  t.same(meter.read(0), { tokensPerS: 0, headroom: 1, expectedTokens: 0, backlogS: 0 });
});
