/** Order of service: reachable deadlines first, and a share of the starts for late requests and requests without a budget. */
import t from 'tap';
import type { OnMiss } from '../../src/protocol/index.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import {
  answering,
  asking,
  changed,
  within,
  natural,
  plannerOf,
  stateOf,
  total,
  unstated,
  orderOf,
} from './fixtures.js';
import { layers } from './sample.js';

const LATER = 100_000;

function waiting(id: string, arrivedAt: number, totalMs: number | null): Sequence {
  return asking(id, totalMs === null ? null : total(totalMs), { arrivedAt, promptLength: 100 });
}

function holding({ id, budget, arrivedAt }: Sequence): Sequence {
  return answering(id, budget, { arrivedAt, firstTokenAt: LATER - 10, lastTokenAt: LATER - 5 });
}

const late = Array.from({ length: 5 }, (_, i) => waiting(`late${i}`, LATER - 90_000 + i, 500));
const ordered = (
  all: readonly Sequence[],
  live: readonly Sequence[] = [],
  { slots = 20 }: { readonly slots?: number } = {},
): string[] => [...orderOf(plannerOf(), stateOf({ now: LATER, slots, live, waiting: all }))];
const idsOf = (all: readonly Sequence[]): string[] => all.map(({ id }) => id);

void t.test('earlier deadlines go first, ties by arrival', async (t) => {
  const same = [waiting('b', LATER - 10, 1010), waiting('a', LATER - 20, 1020), waiting('c', LATER, 900)];
  t.strictSame(ordered(same), ['c', 'a', 'b']);
  t.strictSame(ordered([]), []);
});

void t.test('late requests have their share of the slots, and wait behind reachable deadlines beyond it', async (t) => {
  const slots = 20;
  const kept = slots * defaultPolicy.noBudgetShare;
  t.ok(kept > 1 && kept < late.length, 'the test counts whole slots');
  const many = Array.from({ length: 4 }, (_, i) => waiting(`many${i}`, LATER - 50, 5_000 + i));
  const [first, ...rest] = idsOf(late);
  t.strictSame(ordered([...many, ...late], [], { slots }), [first, ...idsOf(many), ...rest]);
  const begun = late.slice(0, kept);
  const left = late.slice(kept);
  t.strictSame(ordered([...many, ...left], begun.map(holding), { slots }), [...idsOf(many), ...idsOf(left)]);
  t.strictSame(ordered([...many, ...late], [], { slots: 1 }), [...idsOf(many), ...idsOf(late)], 'never the only slot');
});

void t.test('requests without a promise keep their share of the slots: one at least, and never all', async (t) => {
  const keptOf = (waiting: readonly Sequence[], slots: number): number =>
    plannerOf().serviceOrder(stateOf({ slots, waiting })).protectedRows;
  const kept = (free: number, slots: number, tenant = ''): number => {
    const others = Array.from({ length: free }, (_, i) => asking(`free${i}`, null, { tenant }));
    return keptOf([asking('promised', total(9000)), ...others], slots);
  };
  t.equal(kept(0, 20), 0, 'promises alone may take all slots');
  t.equal(kept(1, 20), 1);
  t.equal(kept(12, 20), 20 * defaultPolicy.noBudgetShare);
  t.equal(kept(12, 4), 1);
  const free = Array.from({ length: 12 }, (_, i) => asking(`free${i}`, null));
  t.equal(keptOf(free, 20), 20 * defaultPolicy.noBudgetShare, 'without promises too');
  t.equal(kept(12, 1), 0);
  t.equal(kept(12, 20, 'other key'), 10, 'a key without promises has its share of the keys');
});

void t.test('a promise goes before a request without one that is due earlier', async (t) => {
  const soon = changed(waiting('soon', LATER, 1_000), { serviceClass: 'best_effort' });
  t.strictSame(ordered([soon, waiting('promised', LATER, 5_000)], [holding(waiting('free', 0, null))]), [
    'promised',
    'soon',
  ]);
});

void t.test('without a reachable deadline the first arrival goes first, with a budget or without', async (t) => {
  t.strictSame(ordered(late), idsOf(late));
  const unbudgeted = ['x', 'y'].map((id, i) => waiting(id, LATER - 80_000 + i, null));
  t.strictSame(ordered([...unbudgeted, ...late]), [...idsOf(late), 'x', 'y']);
  const reachable = waiting('z', LATER, 5_000);
  t.strictSame(ordered([...unbudgeted, ...late, reachable], [], { slots: 1 })[0], 'z');
});

void t.test('a deadline is reachable while the shallowest exit has time for it', async (t) => {
  const patient = waiting('patient', LATER, 60_000);
  const isFirst = (urgent: Sequence): boolean => ordered([patient, urgent])[0] === 'urgent';
  t.ok(isFirst(waiting('urgent', LATER, 500)));
  t.notOk(isFirst(waiting('urgent', LATER, 50)));
  t.notOk(
    isFirst(changed(waiting('urgent', LATER, 500), { minExit: 30, promptLength: 1500 })),
    'no exit is left to give',
  );
  const lands = (totalMs: number): Sequence =>
    asking('urgent', total(totalMs, 'land'), { ...natural, arrivedAt: LATER, promptLength: 100 });
  t.ok(isFirst(lands(200)), 'of an answer that lands one sentence must fit');
  t.notOk(isFirst(within(lands(200), total(200))), 'of one that does not, half of all answers');
});

void t.test(
  'a waiting request without time for a sentence is hopeless where it lands, unless it has a token',
  async (t) => {
    const isHopeless = (onMiss: OnMiss, leftMs: number, generated = 0): boolean => {
      const ask = asking('a', total(1000, onMiss), {
        ...natural,
        promptLength: 3,
        arrivedAt: LATER - 1000 + leftMs,
        generated,
      });
      return plannerOf()
        .serviceOrder(stateOf({ now: LATER, waiting: [ask] }))
        .hopeless.includes(ask);
    };
    t.same([isHopeless('land', 500), isHopeless('land', 20)], [false, true]);
    t.same([isHopeless('truncate', 20), isHopeless('land', 20, 1)], [false, false]);
  },
);

void t.test('a deadline is reachable beside the rows that decode, and prompts are none of these', async (t) => {
  const live = Array.from({ length: 16 }, (_, i) => holding(waiting(`row${i}`, 0, null)));
  const isFirst = (beside: readonly Sequence[]): boolean =>
    ordered([waiting('patient', LATER, 60_000), waiting('urgent', LATER, 500)], beside)[0] === 'urgent';
  t.ok(isFirst(live.slice(0, 1)));
  t.notOk(isFirst(live));
  t.ok(isFirst(live.map((each) => changed(each, { frontier: layers.map(() => each.tokens.length - 2) }))));
});

void t.test('a first token is due before its answer, and a tight TPOT before a loose one', async (t) => {
  const begins = within(waiting('begins', LATER, null), { ...unstated, totalMs: 60_000, ttftMs: 1_000 });
  t.strictSame(ordered([waiting('ends', LATER, 5_000), begins]), ['begins', 'ends']);
  const loose = within(waiting('loose', LATER - 100, null), { ...unstated, tpotMs: 100 });
  const tight = within(waiting('tight', LATER, null), { ...unstated, tpotMs: 20 });
  t.strictSame(ordered([loose, tight]), ['tight', 'loose']);
});
