/** Order of service: reachable deadlines first, and a share of the starts for late requests and requests without a budget. */
import t from 'tap';
import type { OnMiss, RequestView, Router, SequenceView } from '../../src/router/index.js';
import { answering, asking, routerOf, stateOf, total, unstated } from './fixtures.js';

const LATER = 100_000;

function waiting(id: string, arrivedAt: number, totalMs: number | null): RequestView {
  return asking(id, totalMs === null ? null : total(totalMs), { arrivedAt, promptLength: 100 });
}

function holding({ id, budget, arrivedAt }: RequestView): SequenceView {
  return answering(id, budget, { arrivedAt, firstTokenAt: LATER - 10, lastTokenAt: LATER - 5 });
}

const late = Array.from({ length: 5 }, (_, i) => waiting(`late${i}`, LATER - 90_000 + i, 500));
const ordered = (
  all: readonly RequestView[],
  live: readonly SequenceView[] = [],
  { slots = 20, router = routerOf() }: { readonly slots?: number; readonly router?: Router } = {},
): string[] => router.order(stateOf({ now: LATER, slots, live, waiting: all })).map(({ id }) => id);
const idsOf = (all: readonly RequestView[]): string[] => all.map(({ id }) => id);

void t.test('earlier deadlines go first, ties by arrival', async (t) => {
  const same = [waiting('b', LATER - 10, 1010), waiting('a', LATER - 20, 1020), waiting('c', LATER, 900)];
  t.strictSame(ordered(same), ['c', 'a', 'b']);
  t.strictSame(ordered([]), []);
});

void t.test('every sixth start is for the oldest late request, the rest wait behind reachable deadlines', async (t) => {
  const router = routerOf();
  const many = Array.from({ length: 6 }, (_, i) => waiting(`many${i}`, LATER - 50, 5_000 + i));
  const [a, ...rest] = idsOf(late);
  t.strictSame(ordered([...many, ...late], [], { router }), [...idsOf(many), a, ...rest]);
  const begun = many.slice(0, 5).map(holding);
  t.strictSame(ordered([...many.slice(5), ...late], begun, { router }), [a, 'many5', ...rest], 'five others began');
  const live = [...begun, ...late.slice(0, 1).map(holding)];
  const left = [...many.slice(5), ...late.slice(1)];
  t.strictSame(ordered(left, live, { router }), ['many5', ...rest], 'a late one began');
});

void t.test('where no deadline is reachable, the first arrival goes first', async (t) => {
  t.strictSame(ordered(late), idsOf(late));
  const unbudgeted = ['x', 'y'].map((id, i) => waiting(id, LATER - 80_000 + i, null));
  t.strictSame(ordered([...unbudgeted, ...late]), [...idsOf(late), 'x', 'y'], 'requests without a budget age alike');
});

void t.test('under congestion, a request that is hopeless at the TPOT of all does not go before others', async (t) => {
  const paced = (): Router => {
    const router = routerOf();
    const decode = { rows: [0, 0, 0, 0, 16], context: 2000 };
    for (let i = 0; i < 5; i += 1)
      router.observeStep({ decode, prefill: [] }, router.predictMs({ decode, prefill: [] }));
    return router;
  };
  const urgent = waiting('urgent', LATER, 600);
  const patient = Array.from({ length: 4 }, (_, i) => waiting(`patient${i}`, LATER, 6_000 + i));
  const first = (all: readonly RequestView[]): string | undefined => {
    const held = ['x', 'y'].map((id) => holding(waiting(id, LATER - 90_000, null)));
    return ordered(all, held, { slots: 5, router: paced() })[0];
  };
  t.equal(first([...patient.slice(0, 3), urgent]), 'urgent', 'while fewer requests wait than there are slots');
  t.equal(first([...patient, urgent]), 'patient0');
});

void t.test('a first token is due before its answer, and a tight TPOT before a loose one', async (t) => {
  const begins = { ...waiting('begins', LATER, null), budget: { ...unstated, totalMs: 60_000, ttftMs: 1_000 } };
  t.strictSame(ordered([waiting('ends', LATER, 5_000), begins]), ['begins', 'ends']);
  const loose = { ...waiting('loose', LATER - 100, null), budget: { ...unstated, tpotMs: 100 } };
  const tight = { ...waiting('tight', LATER, null), budget: { ...unstated, tpotMs: 20 } };
  t.strictSame(ordered([loose, tight]), ['tight', 'loose']);
});

void t.test('a request that was preempted after its first token is not late for it', async (t) => {
  const budget = { ...unstated, ttftMs: 300, tpotMs: 100 };
  const begun = { ...waiting('begun', LATER - 2_000, null), generated: 5, firstTokenAt: LATER - 1_900, budget };
  const fresh = { ...waiting('fresh', LATER - 100, null), budget };
  t.strictSame(ordered([begun, fresh]), ['fresh', 'begun'], 'a first token is due before the rest of an answer');
});

void t.test('a request that gave its slot back does not wait for ever', async (t) => {
  const budget = { ...unstated, ttftMs: 500 };
  const begun = asking('begun', budget, { arrivedAt: 0, generated: 40, maxTokens: 80, firstTokenAt: 400 });
  const others = Array.from({ length: 3 }, (_, i) => waiting(`other${i}`, LATER - 1000, 70_000));
  t.equal(ordered([...others, begun])[0], 'begun');
});

void t.test('requests without a budget are served in order of their virtual deadlines', async (t) => {
  const short = asking('short', null, { arrivedAt: LATER, maxTokens: 5 });
  const long = asking('long', null, { arrivedAt: LATER - 50, maxTokens: 500 });
  t.strictSame(ordered([long, short]), ['short', 'long'], 'a short answer is due sooner');
  t.strictSame(ordered([{ ...long, arrivedAt: LATER - 90_000 }, short]), ['long', 'short'], 'a long wait counts');
});

void t.test('an overdue request is one that ends at its deadline, which the next step passes', async (t) => {
  const router = routerOf();
  const work = { decode: { rows: [0, 0, 0, 0, 4], context: 200 }, prefill: [] };
  const stepMs = router.predictMs(work);
  const at = (onMiss: OnMiss, leftMs: number, isExactLength = false): boolean =>
    router.isOverdue(
      asking('a', total(1000, onMiss), { arrivedAt: LATER, isExactLength }),
      LATER + 1000 - 12 - leftMs,
      work,
    );
  t.ok(at('truncate', stepMs - 0.01));
  t.notOk(at('truncate', stepMs + 0.01));
  t.notOk(at('continue', -500));
  for (const onMiss of ['land', 'reject'] as const) {
    t.ok(at(onMiss, stepMs - 0.01), 'an answer without a place to land');
    t.notOk(at(onMiss, -500, true), 'an answer of an exact length does not land');
  }
  t.notOk(router.isOverdue(asking('a', { ...unstated, ttftMs: 1, onMiss: 'truncate' }), 1e9, work), 'no total, no end');
});
