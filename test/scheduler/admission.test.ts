/** Service class, exit and reason of a request that arrives, or the least budget that would be guaranteed. */
import t from 'tap';
import type { Budget, ServiceClass } from '../../src/protocol/index.js';
import type { Planner } from '../../src/engine/scheduler/planner.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import type { Admission, AnswerEnd } from '../../src/engine/scheduler/types.js';
import {
  type Given,
  NOW,
  admission,
  admitted,
  answering,
  arrive,
  asking,
  changed,
  leastOf,
  natural,
  planOf,
  prompting,
  plannerOf,
  stateOf,
  total,
  unstated,
  within,
} from './fixtures.js';

const landing = (id: string, totalMs: number, more: Given = {}): Sequence =>
  asking(id, total(totalMs, 'land'), { ...natural, ...more });
const classOf = (request: Sequence, waiting: readonly Sequence[] = [], planner = plannerOf()): string => {
  const found = admission(planner, request, stateOf({ waiting }));
  return found.kind === 'admit' ? found.serviceClass : 'rejected';
};
const least = (request: Sequence = landing('a', 1), state = stateOf(), planner = plannerOf()): number =>
  leastOf(planner, request, state) ?? NaN;

for (const [name, budget, more, expected] of [
  ['no budget', null, natural, 'none'],
  ['a budget that states nothing', unstated, natural, 'none'],
  ['an ample budget that lands', total(2000, 'land'), natural, 'guaranteed'],
  ['an ample budget of an exact length', total(2000), {}, 'guaranteed'],
  ['a first token', { ...unstated, ttftMs: 1000 }, natural, 'guaranteed'],
  ['a TPOT', { ...unstated, tpotMs: 30 }, natural, 'guaranteed'],
  ['a total that not even a sentence fits', total(60, 'land'), natural, 'rejected'],
  ['an answer that may get longer than its budget', total(500), natural, 'best_effort'],
  ['the same, where it lands', total(500, 'land'), natural, 'guaranteed'],
  ['prose of which a sentence fits', total(120, 'land'), natural, 'guaranteed'],
  ['code of which no first statement is sure to fit', total(120, 'land'), { ...natural, kind: 'code' }, 'best_effort'],
  ['an exact length that its budget does not hold', total(150, 'land'), {}, 'rejected'],
  ['the same, where it goes on', total(150), {}, 'best_effort'],
  ['the same, where it is cut', total(150, 'truncate'), {}, 'best_effort'],
  ['a form of likely length', total(1000, 'land'), { ...natural, mayEnd: false, kind: 'schema' }, 'best_effort'],
  [
    'a form that is unlikely to be whole',
    total(100, 'land'),
    { ...natural, mayEnd: false, kind: 'schema' },
    'rejected',
  ],
  ['a TPOT that no exit has', { ...unstated, tpotMs: 0.5 }, natural, 'best_effort'],
] as const) {
  void t.test(`class: ${name} is ${expected}`, async (t) => {
    t.equal(classOf(asking('a', budget, more)), expected);
  });
}

void t.test(
  'the least budget of a rejection beside a promise without slack holds at once and a step later',
  async (t) => {
    let [later, of] = [0, 0];
    for (let ms = 1100; ms < 1500; ms += 5) {
      const old = (generated: number) => answering('old', total(ms), { serviceClass: 'guaranteed', generated });
      const named = least(asking('new', null, natural), stateOf({ live: [old(40)] }));
      const retry = (arrivedAt: number, now: number, generated: number): string => {
        const ask = asking('new', total(named, 'reject'), { ...natural, arrivedAt });
        return admission(plannerOf(), ask, stateOf({ now, live: [old(generated)] })).kind;
      };
      t.equal(retry(NOW, NOW, 40), 'admit', `${named} ms beside a promise of ${ms}`);
      of += 1;
      if (retry(NOW + 3, NOW + 8, 41) === 'admit') later += 1;
    }
    t.ok(later >= 0.95 * of, `${later} of ${of}`);
  },
);

void t.test('a least budget counts from arrival: a request that has waited gets a greater one', async (t) => {
  const waited = (ms: number): number => least(landing('a', 1, { arrivedAt: NOW - ms }));
  t.ok(waited(100) >= waited(0) + 100, `${waited(100)} and ${waited(0)} ms`);
});

void t.test('no guarantee is made out of the time of an older one, though the new request is due first', async (t) => {
  const one = least();
  const older = (ms: number): Sequence[] => ['a', 'b', 'c'].map((id, i) => landing(id, ms + i));
  const loose = 20 * one;
  let tight = one;
  while (classOf(landing('c', tight + 2), older(tight).slice(0, 2)) !== 'guaranteed') tight *= 1.02;
  t.equal(classOf(landing('new', 2.5 * one), older(loose)), 'guaranteed', 'there is time for all');
  t.equal(classOf(landing('new', 0.9 * tight), older(tight)), 'best_effort', 'it would be in time, the others not');
  const broken = landing('late', 100, { arrivedAt: NOW - 60 });
  t.not(classOf(landing('new', 0.9 * tight), [...older(tight), broken]), 'guaranteed', 'beside a broken promise too');
  const unpromised = older(tight).map((each) => changed(each, { serviceClass: 'best_effort' }));
  t.equal(classOf(landing('new', 2.5 * one), unpromised), 'guaranteed', 'best effort holds no time');
});

void t.test('beside a request of another key without a promise, a second promise has an equal share', async (t) => {
  const beside = (serviceClass: ServiceClass, own: readonly Sequence[]): string => {
    const rival = landing('rival', 20_000, { tenant: 'b', serviceClass });
    return classOf(landing('new', 1.1 * least(), { tenant: 'a' }), [...own, rival]);
  };
  const own = [landing('own', 20_000, { tenant: 'a' })];
  t.equal(beside('best_effort', own), 'best_effort', 'its share has no time for a second one');
  t.equal(beside('guaranteed', own), 'guaranteed', 'a promise of another key takes its time alone');
  t.equal(beside('best_effort', []), 'guaranteed', 'the first promise has the machine');
  t.equal(classOf(landing('new', 1.1 * least(), { tenant: 'a' }), own), 'guaranteed', 'and so has a key alone');
});

const wanted = total(5000, 'land');
const DUE = NOW + 5000 - 12;

for (const [name, isCareful, budget, endedAt, end, firstTokenAt] of [
  ['that ended in time', false, wanted, DUE, 'ended', NOW + 100],
  ['that landed', false, wanted, DUE, 'landed', NOW + 100],
  ['that its client cancelled late', false, wanted, DUE + 9000, 'cancelled', NOW + 100],
  ['that ended late', true, wanted, DUE + 1, 'ended', NOW + 100],
  ['that was cut', true, wanted, DUE - 100, 'deadline', NOW + 100],
  ['whose first token was late', true, { ...wanted, ttftMs: 500 }, DUE - 100, 'ended', NOW + 489],
] as const satisfies readonly (readonly [string, boolean, Budget, number, AnswerEnd, number])[]) {
  void t.test(`a guaranteed answer ${name} makes later ones ${isCareful ? '' : 'no '}more careful`, async (t) => {
    const planner = plannerOf();
    const ask = landing('a', 1);
    const answered = changed(ask, { isExactLength: true, budget, firstTokenAt, generated: 50 });
    const before = least(ask, stateOf(), planner);
    for (let i = 0; i < 3; i += 1) planner.observeEnd(answered, endedAt, end);
    const after = least(changed(ask, { arrivedAt: endedAt }), stateOf({ now: endedAt }), planner);
    t.equal(after > 1.1 * before, isCareful, `${after} after ${before}`);
  });
}

void t.test('reason: full depth, and why not', async (t) => {
  const reasonOf = (planner: Planner, request: Sequence, state = stateOf()): string =>
    admitted(planner, request, state).reason;
  const tight = landing('a', 150);
  t.equal(reasonOf(plannerOf(), landing('a', 60_000)), 'deepest');
  t.equal(reasonOf(plannerOf(), landing('a', 150, { minExit: 10, maxExit: 10 })), 'deepest', 'of those that it allows');
  t.equal(reasonOf(plannerOf(), tight), 'budget');
  let ms = 150;
  while (reasonOf(plannerOf(), landing('a', ms)) !== 'deepest') ms *= 1.02;
  const waiting = Array.from({ length: 8 }, (_, i) => landing(`w${i}`, 100 + i, { serviceClass: 'best_effort' }));
  const others = waiting.map((each) => within(each, total(ms - 1, 'land')));
  t.equal(reasonOf(plannerOf(), landing('a', ms), stateOf({ waiting: others })), 'load');
});

void t.test('the exit of an admission is the one that the request begins with', async (t) => {
  for (const ms of [120, 200, 400, 900, 5000]) {
    const planner = plannerOf();
    const ask = landing('new', ms);
    const { exit, serviceClass } = admitted(planner, ask);
    arrive(planner, ask, NOW);
    const live = [prompting('new', ask.budget, { ...natural, exit, serviceClass })];
    t.equal(planOf(planner, stateOf({ live })).exits.get('new'), exit, `${ms} ms`);
  }
});

/** One after the other, each waiting while the next arrives. */
function apart(requests: readonly Sequence[]): Admission[] {
  const planner = plannerOf();
  let waiting: readonly Sequence[] = [];
  return requests.map((request) => {
    const found = admission(planner, request, stateOf({ waiting }));
    if (found.kind === 'reject') return found;
    waiting = [...waiting, changed(request, { exit: found.exit, serviceClass: found.serviceClass })];
    return found;
  });
}
const together = (requests: readonly Sequence[]): Admission[] => plannerOf().admit(requests, stateOf());

for (const onMiss of ['land', 'reject'] as const) {
  void t.test(`burst: promises with ${onMiss} are made as if each request had come by itself`, async (t) => {
    const kindOf = (each: Admission): string => (each.kind === 'admit' ? each.serviceClass : 'rejected');
    const seen = new Set<string>();
    for (const totalMs of [200, 400, 800]) {
      const burst = Array.from({ length: 24 }, (_, i) =>
        asking(`r${i}`, total(totalMs * (1 + (i % 3)), onMiss), natural),
      );
      const kinds = together(burst).map(kindOf);
      t.strictSame(kinds, apart(burst).map(kindOf), `${totalMs} ms`);
      for (const kind of kinds) seen.add(kind);
    }
    t.same(seen, new Set(['guaranteed', 'rejected']));
  });
}

void t.test('burst: requests are refused as each would be alone, with a number that is enough', async (t) => {
  const live = Array.from({ length: 16 }, (_, i) => answering(`row${i}`, total(20_000 + i, 'land'), natural));
  const state = stateOf({ live, slots: 16 });
  const leastOfAll = (requests: readonly Sequence[]): number[] =>
    plannerOf()
      .admit(requests, state)
      .map((each) => (each.kind === 'reject' ? (each.leastFeasibleMs ?? NaN) : NaN));
  const burst = [200, 40, 120, 300, 80, 300].map((promptLength, i) => landing(`b${i}`, 60, { promptLength }));
  const alone = burst.flatMap((each) => leastOfAll([each]));
  const all = leastOfAll(burst);
  for (const [i, ms] of all.entries()) t.ok(ms >= (alone[i] ?? NaN), `${ms} of ${alone[i]} ms`);
  t.ok(Math.max(...all) <= Math.max(...alone) + burst.length, 'no number is above that of the longest prompt');
  const retried = burst.map((each, i) => within(each, total(all[i] ?? NaN, 'reject')));
  for (const each of retried) t.equal(plannerOf().admit([each], state)[0]?.kind, 'admit');
});

void t.test('burst: a rejected request is no company', async (t) => {
  const some = Array.from({ length: 3 }, (_, i) => asking(`r${i}`, total(5_000)));
  const hopeless = Array.from({ length: 5 }, (_, i) => asking(`no${i}`, total(1, 'reject')));
  const all = together([...hopeless.slice(0, 2), ...some, ...hopeless.slice(2)]);
  t.same(
    all.map(({ kind }) => kind),
    ['reject', 'reject', 'admit', 'admit', 'admit', 'reject', 'reject', 'reject'],
  );
  t.strictSame(
    all.filter(({ kind }) => kind === 'admit'),
    together(some),
  );
});
