/** Simulated servers behind a balancer by least connections. */
import fc from 'fast-check';
import t from 'tap';
import { type Work, predictMs } from '../../src/cost/model.js';
import { Router, defaultPolicy } from '../../src/scheduler/router.js';
import { type Machine, type Outcome, simulate } from '../../src/simulate/engine.js';
import { affine, type FleetRequest, leastRequest, weighted } from '../../src/simulate/balance.js';
import { type Fleet, simulateFleet } from '../../src/simulate/replicas.js';
import { seeded } from '../../src/util/random.js';
import { isMet } from '../../src/simulate/report.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { arrivals } from '../scheduler/arbitrary.js';
import { sample, shape, table } from '../scheduler/sample.js';

const actual = (work: Work): number => predictMs(sample, work);
const machine: Machine = { slots: 4, kvPositions: 1e6, actual };
const routerOf = (): Router => new Router(shape, table, defaultPolicy);
const fleetOf = (machines: readonly Machine[], more: Partial<Fleet> = {}): Fleet => ({
  ...{ machines, routerOf, costs: sample, policy: defaultPolicy, balancer: leastRequest(seeded(1)) },
  ...more,
});
/** By least request. */
const serve = (requests: readonly SimulatedRequest[], machines: readonly Machine[]): Outcome[] =>
  simulateFleet(requests, fleetOf(machines)).outcomes;
const inOrder = (requests: readonly SimulatedRequest[]): SimulatedRequest[] =>
  [...requests].sort((a, b) => a.arrivedAt - b.arrivedAt);

/** A request that arrives at this time: 100 positions, 40 tokens. */
const request = (id: string, arrivedAt: number, more: Partial<SimulatedRequest> = {}): SimulatedRequest => ({
  ...{ id, arrivedAt, promptLength: 100, lengths: shape.exits.map(() => 40), maxTokens: 40, isExactLength: true },
  ...{ lengthGroup: { kind: 'chat', key: null }, budget: null, minExit: null, maxExit: null, budgetClass: 'none' },
  ...more,
});

void t.test('one server behind the balancer does what it does alone', async () => {
  fc.assert(
    fc.property(arrivals, (requests) => {
      const sorted = inOrder(requests);
      const run = simulate(sorted, machine, routerOf(), sample, defaultPolicy);
      let next = run.next();
      while (next.done !== true) next = run.next();
      return JSON.stringify(serve(sorted, [machine])) === JSON.stringify(next.value);
    }),
    { numRuns: 60, seed: 20_26, endOnFailure: true },
  );
});

void t.test('every request ends once, whatever the number of servers', async () => {
  fc.assert(
    fc.property(arrivals, fc.integer({ min: 2, max: 4 }), (requests, count) => {
      const outcomes = serve(inOrder(requests), new Array<Machine>(count).fill(machine));
      return new Set(outcomes.map(({ request: { id } }) => id)).size === requests.length;
    }),
    { numRuns: 60, seed: 20_26, endOnFailure: true },
  );
});

void t.test('a server that is slower gets fewer requests', async (t) => {
  const counts = [0, 0];
  const counting = (i: number, factor: number): Machine => ({
    ...machine,
    actual: (work) => {
      if (work.prefill.length > 0) counts[i] = (counts[i] ?? 0) + 1;
      return factor * actual(work);
    },
  });
  const requests = Array.from({ length: 40 }, (_, i) => request(`r${i}`, i * 150));
  t.equal(serve(requests, [counting(0, 1), counting(1, 4)]).length, 40);
  const [fast = 0, slow = 0] = counts;
  t.ok(fast > 1.5 * slow, `${fast} prompts at the fast server, ${slow} at the slow one`);
});

void t.test('two servers keep budgets that one cannot', async (t) => {
  const budget = { totalMs: 700, ttftMs: null, tpotMs: null, onMiss: 'continue' } as const;
  const requests = Array.from({ length: 60 }, (_, i) => request(`r${i}`, i * 60, { budget, minExit: 30 }));
  const attainment = (count: number): number =>
    serve(requests, new Array<Machine>(count).fill(machine)).filter(isMet).length / requests.length;
  const [one, two] = [attainment(1), attainment(2)];
  t.ok(one < 0.7 && two > one + 0.2, `${one} by one server, ${two} by two`);
});

void t.test('by load reports, a server of a third of the speed gets a small part of the work', async (t) => {
  const counts = [0, 0];
  const counting = (i: number, factor: number): Machine => ({
    ...machine,
    actual: (work) => {
      const tokens = (work.decode?.rows ?? []).reduce((sum, rows) => sum + rows, 0);
      counts[i] = (counts[i] ?? 0) + tokens;
      return factor * actual(work);
    },
  });
  const requests = Array.from({ length: 600 }, (_, i) => request(`r${i}`, i * 90));
  const { outcomes, lost } = simulateFleet(
    requests,
    fleetOf([counting(0, 1), counting(1, 3)], { balancer: weighted() }),
  );
  t.equal(outcomes.length, 600);
  t.equal(lost.length, 0);
  const share = (counts[1] ?? NaN) / ((counts[0] ?? NaN) + (counts[1] ?? NaN));
  t.ok(share > 0.02 && share < 0.4, `${share} of the tokens at the slow server`);
});

void t.test('a conversation stays at its server, and its prefix costs nothing there', async (t) => {
  const requests: FleetRequest[] = Array.from({ length: 120 }, (_, i) => ({
    ...request(`r${i}`, i * 200, { promptLength: 400 }),
    ...{ session: `s${i % 10}`, sharedPositions: 390 },
  }));
  const prompts = (balancer: Fleet['balancer']): number => {
    let positions = 0;
    const counting: Machine = {
      ...machine,
      actual: (work) => {
        positions += work.prefill.reduce((sum, part) => sum + part.positions, 0);
        return actual(work);
      },
    };
    simulateFleet(requests, fleetOf(new Array<Machine>(4).fill(counting), { balancer }));
    return positions;
  };
  const [kept, mixed] = [prompts(affine(leastRequest(seeded(1)))), prompts(leastRequest(seeded(1)))];
  t.ok(kept < 0.6 * mixed, `${kept} positions with affinity, ${mixed} without`);
});

void t.test('a lost server: answers that have begun break off, all others are repeated', async (t) => {
  const requests = Array.from({ length: 60 }, (_, i) => request(`r${i}`, i * 40));
  const at = 1200;
  const { outcomes, lost } = simulateFleet(requests, fleetOf([machine, machine], { loss: { at, servers: [0] } }));
  t.ok(lost.length > 0 && lost.length <= machine.slots, `${lost.length} of 60`);
  const ids = [...outcomes.map((each) => each.request.id), ...lost.map(({ id }) => id)];
  t.same(ids.length, 60);
  t.equal(new Set(ids).size, 60, 'every request has one end');
});
