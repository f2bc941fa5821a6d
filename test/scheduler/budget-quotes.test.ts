/** The budget that a rejection names is held for a retry: nothing that happens in between makes it false. */
import t from 'tap';
import type { RequestView, Router } from '../../src/scheduler/router.js';
import { defaultPolicy } from '../../src/scheduler/router.js';
import { NOW, admission, asking, leastOf, natural, routerOf, stateOf, total, within } from './fixtures.js';

const SECOND = defaultPolicy.reservedMs;
const first = asking('first', null, natural);

/** A router that has named a budget, then some for shorter prompts, on a machine that gets twice as slow. */
function named(request: RequestView = first, others = 0): { router: Router; ms: number } {
  const router = routerOf();
  const ms = leastOf(router, request) ?? NaN;
  for (let i = 0; i < others; i += 1) leastOf(router, { ...request, promptLength: 1 });
  const work = { decode: { rows: [0, 0, 0, 0, 1], context: 100 }, prefill: [] };
  for (let i = 0; i < 200; i += 1) router.observeStep(work, 2 * routerOf().predictMs(work));
  return { router, ms };
}

function retry(router: Router, ms: number, change: Partial<RequestView> = {}): string {
  const arrivedAt = NOW + 20;
  const again = within({ ...first, id: 'again', arrivedAt, ...change }, total(ms, 'reject'));
  return admission(router, again, stateOf({ now: again.arrivedAt + 5 })).kind;
}

void t.test('a retry is promised the named budget, although the machine got slower', async (t) => {
  const { router, ms } = named();
  t.equal(retry(router, ms, { tenant: 'other' }), 'reject', 'on that machine it is too short for others');
  t.equal(retry(router, ms), 'admit');
  t.equal(retry(router, ms, { id: 'third' }), 'reject', 'once');
});

void t.test('a reservation is for a request of its kind, in its time', async (t) => {
  const { ms } = named();
  const cases: [string, number, Partial<RequestView>][] = [
    ['a shorter budget', ms - 1, {}],
    ['a longer prompt', ms, { promptLength: first.promptLength + 1 }],
    ['more tokens', ms, { maxTokens: first.maxTokens + 1 }],
    ['a deeper floor', ms, { minExit: 30 }],
    ['too late', ms, { arrivedAt: NOW + SECOND + 1 }],
    ['a dry run', ms, { isDryRun: true }],
  ];
  for (const [name, totalMs, change] of cases) t.equal(retry(named().router, totalMs, change), 'reject', name);
  t.equal(retry(named().router, ms, { promptLength: first.promptLength - 1 }), 'admit', 'a shorter prompt');
  t.equal(retry(named({ ...first, isDryRun: true }).router, ms), 'reject', 'a dry run leaves none');
});

void t.test('other promises leave the time of a reservation', async (t) => {
  const ms = leastOf(routerOf(), first) ?? NaN;
  const held = (router: Router): number => {
    const rivals = Array.from({ length: 40 }, (_, i) => {
      return within(
        asking(`rival${i}`, null, { ...natural, tenant: 'other', arrivedAt: NOW - i / 1000 }),
        total(ms, 'reject'),
      );
    });
    return router.admit(rivals, stateOf()).filter(({ kind }) => kind === 'admit').length;
  };
  const router = routerOf();
  const choices = Array.from({ length: 8 }, (_, i) => within({ ...first, id: `n${i}` }, total(1, 'reject')));
  router.admit(choices, stateOf());
  t.ok(held(router) < held(routerOf()), `${held(router)} and ${held(routerOf())} of 40`);
});

void t.test('a tenant has its last few reservations', async (t) => {
  const few = named(first, defaultPolicy.reservedByTenant - 1);
  t.equal(retry(few.router, few.ms), 'admit');
  const many = named(first, defaultPolicy.reservedByTenant);
  t.equal(retry(many.router, many.ms), 'reject');
  const beside = named();
  for (let i = 0; i < defaultPolicy.reservedByTenant; i += 1) {
    leastOf(beside.router, { ...first, id: `other${i}`, tenant: 'other', promptLength: 1 });
  }
  t.equal(retry(beside.router, beside.ms), 'admit', 'another tenant has its own');
});
