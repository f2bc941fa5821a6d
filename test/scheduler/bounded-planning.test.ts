/** Planning has a bound: a flood of one tenant delays its own requests alone. */
import fc from 'fast-check';
import t from 'tap';
import type { Budget, SequenceRequest } from '../../src/protocol/index.js';
import { Arrivals } from '../../src/engine/scheduler/arrivals.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { StepPlan } from '../../src/engine/scheduler/step-plan.js';
import { simulatedScheduler } from '../simulator/machine.js';
import { engineRequest } from '../simulator/simulated-request.js';
import { cases } from '../support/cases.js';
import { runs } from './arbitrary.js';
import { asking, simulated, total } from './fixtures.js';
import { layers, shape, table } from './sample.js';

const STEP_MS = 50;
const SLOTS = 16;

/** A request whose answer runs on. */
function ask(id: string, number: number, now: number, more: Partial<Parameters<typeof simulated>[3] & object>) {
  const answer = { lengths: layers.map(() => 4000), maxTokens: 4000, isExactLength: false, promptLength: 60 };
  return engineRequest(simulated(id, now, total(100_000, 'land'), { ...answer, ...more }), number, shape);
}

const flood = fc.record({
  tenants: fc.integer({ min: 1, max: 5 }),
  requests: fc.integer({ min: 1, max: 60 }),
  choices: fc.integer({ min: 1, max: 16 }),
  budgets: fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 5 }),
  onMiss: fc.constantFrom('reject' as const, 'land' as const),
});

/** The requests of a flood in a step, each with its choices. */
function floodOf({
  tenants,
  requests,
  choices,
  budgets,
  onMiss,
}: typeof flood extends fc.Arbitrary<infer F> ? F : never) {
  return (step: number): SequenceRequest[] =>
    Array.from({ length: requests }, (_, i) => {
      const id = `flood ${step} ${i}`;
      const budget = total(budgets[i % budgets.length] ?? 1, onMiss);
      const more = { budget, tenant: `t${i % tenants}`, promptLength: 40 + (i % 7), maxTokens: 20 + (i % 11) };
      const first = ask(id, 1000 * step + i, step * STEP_MS - (requests - i) / 100, more);
      return Array.from({ length: choices }, (_, choice) => ({ ...first, id: `${id} ${choice}` }));
    }).flat();
}

/** Runs steps of even time beside full slots. @returns the plans */
function planned(steps: number, arriving: (step: number) => readonly SequenceRequest[]): StepPlan[] {
  const machine = { slots: SLOTS, kvPositions: 1e6 };
  const scheduler = simulatedScheduler(machine, { shape, table, policy: defaultPolicy });
  const plans: StepPlan[] = [];
  for (let step = -5; step < steps; step++) {
    const now = step * STEP_MS;
    const requests = step === -5 ? rows(now) : step < 0 ? [] : arriving(step);
    for (const request of requests) scheduler.add(request);
    const plan = scheduler.schedule(now);
    if (step >= 0) plans.push(plan);
    const tokens = plan.rows.map(({ id }) => ({ id, token: 5, isEnd: false, mayEnd: false }));
    scheduler.commit(plan, { at: now + STEP_MS, cycleMs: STEP_MS, planningMs: 0, tokens, draft: null });
  }
  return plans;
}

const rows = (now: number): SequenceRequest[] =>
  Array.from({ length: SLOTS }, (_, i) => ask(`row${i}`, 900_000 + i, now, { tenant: `row${i % 3}` }));
const decided = ({ admitted, rejected }: StepPlan): string[] => [...admitted, ...rejected].map(({ id }) => id);

void t.test('beside a flood of other tenants, a request is decided in the step in which it arrives', async () => {
  fc.assert(
    fc.property(flood, (shape) => {
      const arriving = floodOf(shape);
      const honest = (step: number) =>
        ask(`honest ${step}`, 500_000 + step, step * STEP_MS, { tenant: 'honest', budget: total(4000, 'reject') });
      const plans = planned(4, (step) => [...arriving(step), honest(step)]).map(decided);
      for (const [step, ids] of plans.entries())
        if (!ids.includes(`honest ${step}`)) throw new Error(`not in step ${step}`);
      if (new Set(plans.flat()).size < plans.flat().length) throw new Error('a request is decided twice');
    }),
    { ...runs, numRuns: cases(8) },
  );
});

void t.test('tenants take turns over the steps, dry runs as well; what needs no decision takes none', async (t) => {
  const arrivals = new Arrivals();
  const add = (id: string, tenant: string, budget: Budget | null = total(100, 'continue'), isDryRun = false) => {
    arrivals.add(asking(id, budget, { tenant, isDryRun }));
  };
  for (const id of ['a0', 'a1', 'a2']) add(id, 'a');
  for (const id of ['b0', 'b1']) add(id, 'b');
  add('dry', 'c', null, true);
  const taken = (most = 2): string =>
    arrivals
      .take(most)
      .map(({ id }) => id)
      .join(' ');
  t.equal(taken(), 'a0 b0');
  t.equal(taken(), 'dry a1');
  for (const id of ['free0', 'free1']) add(id, 'd', null);
  t.equal(taken(), 'b1 a2');
  t.equal(taken(1), 'free0 free1');
  t.equal(arrivals.all.length, 0);
});
