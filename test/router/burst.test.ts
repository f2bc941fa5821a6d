/** Requests that arrive between two steps are admitted together: each is told what it gets beside the others. */
import t from 'tap';
import {
  type Admission,
  type Budget,
  type RouterState,
  type WaitingRequest,
  admitAll,
  defaultPolicy,
  nothingLearned,
  observeRequest,
} from '../../src/router/planner.js';
import { admit } from './alone.js';
import { sample } from './sample.js';

const idle: RouterState = { now: 0, slots: 16, kvRoom: 1e6, live: [], waiting: [], learned: nothingLearned };

function asks(id: string, totalMs: number | null, onMiss: Budget['onMiss'] = 'continue'): WaitingRequest {
  return {
    ...{ id, arrivedAt: 0, promptLength: 200, generated: 0, maxTokens: 50, minExit: 10, exit: 30, maxExit: 30 },
    budget: totalMs === null ? null : { totalMs, ttftMs: null, tpotMs: null, onMiss },
  };
}

const together = (requests: readonly WaitingRequest[]): Admission[] => admitAll(requests, idle, sample, defaultPolicy);

/** One after the other, each waiting while the next arrives. */
function apart(requests: readonly WaitingRequest[]): Admission[] {
  let state = idle;
  return requests.map((request) => {
    const admission = admit(request, state, sample, defaultPolicy);
    if (admission.kind === 'refuse') return admission;
    const { exit, bound: promised, feasible: told } = admission;
    const learned = observeRequest(state.learned, request, 0);
    state = { ...state, learned, waiting: [...state.waiting, { ...request, exit, promised, told }] };
    return admission;
  });
}

const total = (admission: Admission | undefined): number =>
  admission?.kind === 'admit' ? admission.outlook.total.forecastMs : NaN;

void t.test('the first of a burst expects what the last one does', async (t) => {
  const burst = Array.from({ length: 8 }, (_, i) => asks(`r${i}`, 60_000));
  const [alone] = together(burst.slice(0, 1));
  const all = together(burst);
  const ends = all.map(total);
  t.ok((ends[0] ?? 0) > 2 * total(alone), 'not what it would get alone');
  const [firstApart] = apart(burst);
  t.equal(total(firstApart), total(alone), 'as one by one');
  t.ok(Math.max(...ends) < 2 * Math.min(...ends), 'they run side by side');
});

void t.test('promises are made one after the other, as if each had come alone', async (t) => {
  let made = 0;
  let refused = 0;
  for (const onMiss of ['continue', 'reject'] as const) {
    for (const totalMs of [200, 400, 800, 1600]) {
      const burst = Array.from({ length: 12 }, (_, i) => asks(`r${i}`, totalMs * (1 + (i % 3)), onMiss));
      const kinds = (all: readonly Admission[]) =>
        all.map((each) => (each.kind === 'admit' ? { bound: each.bound } : { refused: true }));
      const some = kinds(together(burst));
      t.strictSame(some, kinds(apart(burst)), `${onMiss} ${totalMs}`);
      made += some.filter(({ bound }) => bound === true).length;
      refused += some.filter((each) => 'refused' in each).length;
    }
  }
  t.ok(made > 10 && refused > 10, `${made} made, ${refused} refused`);
});

void t.test('who is refused is no company', async (t) => {
  const some = Array.from({ length: 3 }, (_, i) => asks(`r${i}`, 5_000));
  const hopeless = Array.from({ length: 5 }, (_, i) => asks(`no${i}`, 1, 'reject'));
  const all = together([...hopeless.slice(0, 2), ...some, ...hopeless.slice(2)]);
  t.equal(all.filter(({ kind }) => kind === 'refuse').length, 5);
  const told = (each: Admission) => each.kind === 'admit' && [each.exit, each.bound, total(each)];
  t.strictSame(all.filter(({ kind }) => kind === 'admit').map(told), together(some).map(told));
});
