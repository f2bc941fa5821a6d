/** The budget that a rejection names is held for a retry: nothing that happens in between makes it false. */
import t from 'tap';
import type { Planner } from '../../src/scheduler/planner.js';
import type { Sequence } from '../../src/scheduler/sequence.js';
import { defaultPolicy } from '../../src/scheduler/policy.js';
import {
  type Given,
  NOW,
  changed,
  admission,
  asking,
  leastOf,
  natural,
  plannerOf,
  stateOf,
  total,
  within,
} from './fixtures.js';

const SECOND = defaultPolicy.reservedMs;
const first = asking('first', null, natural);

/** A planner that has named a budget, then some for shorter prompts, on a machine that gets twice as slow. */
function named(request: Sequence = first, others = 0): { planner: Planner; ms: number } {
  const planner = plannerOf();
  const ms = leastOf(planner, request) ?? NaN;
  for (let i = 0; i < others; i += 1) leastOf(planner, changed(request, { promptLength: 1 }));
  const work = { decode: { rows: [0, 0, 0, 0, 1], context: 100 }, prefill: [] };
  for (let i = 0; i < 200; i += 1) planner.observeStep(work, 2 * plannerOf().predictMs(work));
  return { planner, ms };
}

function retry(planner: Planner, ms: number, change: Given & { readonly id?: string } = {}): string {
  const arrivedAt = NOW + 20;
  const again = changed(first, { id: 'again', arrivedAt, ...change, budget: total(ms, 'reject') });
  return admission(planner, again, stateOf({ now: again.arrivedAt + 5 })).kind;
}

void t.test('a retry is promised the named budget, although the machine got slower', async (t) => {
  const { planner, ms } = named();
  t.equal(retry(planner, ms, { tenant: 'other' }), 'reject', 'on that machine it is too short for others');
  t.equal(retry(planner, ms), 'admit');
  t.equal(retry(planner, ms, { id: 'third' }), 'reject', 'once');
});

void t.test('a reservation is for a request of its kind, in its time', async (t) => {
  const { ms } = named();
  const cases: [string, number, Given][] = [
    ['a shorter budget', ms - 1, {}],
    ['a longer prompt', ms, { promptLength: first.promptLength + 1 }],
    ['more tokens', ms, { maxTokens: first.maxTokens + 1 }],
    ['a deeper floor', ms, { minExit: 30 }],
    ['too late', ms, { arrivedAt: NOW + SECOND + 1 }],
    ['a dry run', ms, { isDryRun: true }],
  ];
  for (const [name, totalMs, change] of cases) t.equal(retry(named().planner, totalMs, change), 'reject', name);
  t.equal(retry(named().planner, ms, { promptLength: first.promptLength - 1 }), 'admit', 'a shorter prompt');
  t.equal(retry(named(changed(first, { isDryRun: true })).planner, ms), 'reject', 'a dry run leaves none');
});

void t.test('other promises leave the time of a reservation', async (t) => {
  const ms = leastOf(plannerOf(), first) ?? NaN;
  const held = (planner: Planner): number => {
    const rivals = Array.from({ length: 40 }, (_, i) => {
      return within(
        asking(`rival${i}`, null, { ...natural, tenant: 'other', arrivedAt: NOW - i / 1000 }),
        total(ms, 'reject'),
      );
    });
    return planner.admit(rivals, stateOf()).filter(({ kind }) => kind === 'admit').length;
  };
  const planner = plannerOf();
  const choices = Array.from({ length: 8 }, (_, i) => changed(first, { id: `n${i}`, budget: total(1, 'reject') }));
  planner.admit(choices, stateOf());
  t.ok(held(planner) < held(plannerOf()), `${held(planner)} and ${held(plannerOf())} of 40`);
});

void t.test('a tenant has its last few reservations', async (t) => {
  const few = named(first, defaultPolicy.reservedByTenant - 1);
  t.equal(retry(few.planner, few.ms), 'admit');
  const many = named(first, defaultPolicy.reservedByTenant);
  t.equal(retry(many.planner, many.ms), 'reject');
  const beside = named();
  for (let i = 0; i < defaultPolicy.reservedByTenant; i += 1) {
    leastOf(beside.planner, changed(first, { id: `other${i}`, tenant: 'other', promptLength: 1 }));
  }
  t.equal(retry(beside.planner, beside.ms), 'admit', 'another tenant has its own');
});
