/** Planning has a bound: a flood of one tenant delays its own requests alone. */
import fc from 'fast-check';
import t from 'tap';
import type { Budget } from '../../src/protocol/index.js';
import { Arrivals } from '../../src/engine/scheduler/arrivals.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { simulatedScheduler } from '../simulator/machine.js';
import { simulate } from '../simulator/simulated-engine.js';
import type { SimulatedRequest } from '../simulator/simulated-request.js';
import { cases } from '../support/cases.js';
import { runs } from './arbitrary.js';
import { asking, simulated, total } from './fixtures.js';
import { layers, shape, table } from './sample.js';

const STEP_MS = 50;
const STEPS = 4;

/** A request whose answer runs on. */
const ask = (id: string, at: number, tenant: string, budget: Budget = total(100_000, 'land')): SimulatedRequest =>
  simulated(id, at, budget, { lengths: layers.map(() => 4000), maxTokens: 4000, isExactLength: false, tenant });

const flood = fc.record({
  tenants: fc.integer({ min: 1, max: 5 }),
  requests: fc.integer({ min: 1, max: 60 }),
  choices: fc.integer({ min: 1, max: 16 }),
  budgets: fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 5 }),
  onMiss: fc.constantFrom('reject' as const, 'land' as const),
});

/** The ids that each step decides beside full slots. */
function decidedOf(requests: readonly SimulatedRequest[]): string[][] {
  const machine = { slots: 16, kvPositions: 1e6, actual: () => STEP_MS };
  const rows = Array.from({ length: machine.slots }, (_, i) => ask(`row${i}`, -5 * STEP_MS, `row${i % 3}`));
  const all = [...rows, ...requests].sort((a, b) => a.arrivedAt - b.arrivedAt);
  const decided: string[][] = [];
  for (const { plan } of simulate(all, machine, simulatedScheduler(machine, { shape, table, policy: defaultPolicy }))) {
    if (plan.at >= 0) decided.push([...plan.admitted, ...plan.rejected].map(({ id }) => id));
    if (decided.length === STEPS) break;
  }
  return decided;
}

void t.test('beside a flood of other tenants, a request is decided in the step in which it arrives', async () => {
  fc.assert(
    fc.property(flood, ({ tenants, requests, choices, budgets, onMiss }) => {
      const arriving = Array.from({ length: STEPS }, (_, step) => [
        ask(`honest ${step}`, step * STEP_MS, 'honest', total(4000, 'reject')),
        ...Array.from({ length: requests * choices }, (_, i) => {
          const request = Math.floor(i / choices);
          const budget = total(budgets[request % budgets.length] ?? 1, onMiss);
          const at = step * STEP_MS - (requests - request) / 100;
          return ask(`flood ${step} ${i}`, at, `t${request % tenants}`, budget);
        }),
      ]);
      const decided = decidedOf(arriving.flat());
      for (const [step, ids] of decided.entries())
        if (!ids.includes(`honest ${step}`)) throw new Error(`not in step ${step}`);
      if (new Set(decided.flat()).size < decided.flat().length) throw new Error('a request is decided twice');
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
  t.equal(arrivals.count, 0);
});
