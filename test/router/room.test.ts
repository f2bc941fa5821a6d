/** Who is promised a budget: room is what promises that were made before, and what keeps arriving, leave. */
import t from 'tap';
import {
  type Budget,
  type CostModel,
  type Learned,
  type Policy,
  type WaitingRequest,
  noDemand,
  nothingLearned,
  observeArrival,
} from '../../src/router/planner.js';
import { admit } from './alone.js';
import { exactPolicy, noMargin } from './arbitrary.js';
import { layers, sample } from './sample.js';

const exact: Learned = { ...nothingLearned, promises: noMargin, told: noMargin };
const total = (totalMs: number): Budget => ({ totalMs, ttftMs: null, tpotMs: null, onMiss: 'continue' });

function asks(id: string, totalMs: number): WaitingRequest {
  return {
    ...{ id, arrivedAt: 0, promptLength: 200, generated: 0, maxTokens: 50, minExit: 10, exit: 30, maxExit: 30 },
    budget: total(totalMs),
  };
}

interface Circumstances {
  readonly waiting?: readonly WaitingRequest[];
  readonly learned?: Learned;
  readonly policy?: Partial<Policy>;
  readonly model?: CostModel;
}

function told(
  request: WaitingRequest,
  { waiting = [], learned = exact, policy = {}, model = sample }: Circumstances = {},
) {
  const state = { now: 0, slots: 16, kvRoom: 1e6, live: [], waiting, learned };
  const admission = admit(request, state, model, { ...exactPolicy, ...policy });
  if (admission.kind === 'refuse') throw new Error('nobody asked for a refusal');
  return { exit: admission.exit, bound: admission.bound, room: admission.outlook.total.room };
}

/** Tight requests that keep arriving. */
function arriving(): Learned {
  let demand = noDemand;
  for (let at = -3000; at < 0; at += 100) demand = observeArrival(demand, at, 200, 10, total(200));
  return { ...exact, demand };
}

void t.test('only what was promised before takes room', async (t) => {
  const waiting = Array.from({ length: 6 }, (_, i) => asks(`w${i}`, 390 + i));
  const unpromised = waiting.map((each) => ({ ...each, promised: false }));
  t.equal(told(asks('new', 400), { waiting }).bound, false);
  t.equal(told(asks('new', 400), { waiting: unpromised }).bound, true);
});

void t.test('what keeps arriving takes room, unless the operator plans for nothing of it', async (t) => {
  const learned = arriving();
  const request = asks('new', 2000);
  const policy = { foresight: 0 };
  t.ok(told(request, { learned }).room < 0.9 * told(request).room);
  t.equal(told(request, { learned, policy }).room, told(request, { policy }).room);
});

void t.test('where promises were broken, depth leaves more time for what keeps arriving', async (t) => {
  const exitAt = (margin: number): number => {
    const promises = { ...noMargin, margin, first: margin };
    return told(asks('new', 1000), { learned: { ...arriving(), promises } }).exit;
  };
  t.ok(exitAt(0) > exitAt(1), `${exitAt(0)} and ${exitAt(1)}`);
});

void t.test('no promise is made of the time of an older one, though the new one is due first', async (t) => {
  const beside = (totalMs: number): boolean =>
    told(asks('new', 300), { waiting: [asks('a', totalMs), asks('b', totalMs)] }).bound;
  t.equal(beside(2000), true, 'there is time for all');
  t.equal(beside(340), false, 'it would be in time, and they would not');
});

void t.test('what another prompt brings by its turn needs no room', async (t) => {
  const led = { ...asks('new', 160), expected: layers.map(() => 190) };
  t.equal(told(asks('new', 160)).bound, false);
  t.equal(told(led).bound, true);
});

void t.test('a machine that is half as fast has half the room', async (t) => {
  const slow = { ...sample, correction: { ...sample.correction, speed: 2 } };
  const ratio = told(asks('new', 1000), { model: slow }).room / told(asks('new', 1000)).room;
  t.ok(Math.abs(ratio - 0.5) < 1e-9, `${ratio}`);
});

void t.test('the budget that a refusal names counts from arrival', async (t) => {
  const least = (arrivedAt: number): number => {
    const request = { ...asks('new', 0), arrivedAt, budget: { ...total(1), onMiss: 'reject' as const } };
    const state = { now: 0, slots: 16, kvRoom: 1e6, live: [], waiting: [], learned: exact };
    const admission = admit(request, state, sample, exactPolicy);
    return admission.kind === 'refuse' ? (admission.leastFeasibleMs ?? NaN) : NaN;
  };
  t.equal(least(-400), least(0) + 400);
});

void t.test('a refusal names no budget where what keeps arriving leaves room for none', async (t) => {
  const least = (learned: Learned) => {
    const request = { ...asks('new', 1), budget: { ...total(1), onMiss: 'reject' as const } };
    const state = { now: 0, slots: 16, kvRoom: 1e6, live: [], waiting: [], learned };
    return admit(request, state, sample, exactPolicy);
  };
  t.match(least(exact), { kind: 'refuse', leastFeasibleMs: Number });
  let demand = noDemand;
  for (let at = -3000; at < 0; at += 5) demand = observeArrival(demand, at, 2000, 500, total(200));
  t.match(least({ ...exact, demand }), { kind: 'refuse', leastFeasibleMs: null });
});
