/** More than the machine can serve: what can still be in time is, and what is late makes room. */
import t from 'tap';
import { isBlocked, isCrowded } from '../../src/router/crowd.js';
import {
  type SequenceState,
  type WaitingRequest,
  defaultPolicy,
  nothingLearned,
  order,
  predictMs,
} from '../../src/router/planner.js';
import { type Outcome, simulate } from '../../src/simulate/engine.js';
import { isMet } from '../../src/simulate/report.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { seeded } from '../../src/simulate/workload.js';
import { sample } from './sample.js';

const NOW = 100_000;

function waiting(id: string, arrivedAt: number, totalMs: number | null): WaitingRequest {
  return {
    ...{ id, arrivedAt, promptLength: 100, generated: 0, maxTokens: 50, exit: 10, minExit: 10, maxExit: 30 },
    budget: totalMs === null ? null : { totalMs, ttftMs: null, tpotMs: null, onMiss: 'continue' },
  };
}

function holding(request: WaitingRequest): SequenceState {
  return {
    ...{ ...request, generated: 5, frontier: [104, 104, 104, 104, 104] },
    ...{ firstTokenAt: NOW - 10, lastTokenAt: NOW - 5, tokensAtExit: 5 },
  };
}

const late = Array.from({ length: 5 }, (_, i) => waiting(`late${i}`, NOW - 90_000 + i, 500));
const open = Array.from({ length: 3 }, (_, i) => waiting(`open${i}`, NOW - 50, 5_000 + i));
const ordered = (all: readonly WaitingRequest[], live: readonly SequenceState[], slots = 20): string[] =>
  order(all, { now: NOW, slots, kvRoom: 1e6, live, learned: nothingLearned }, sample, defaultPolicy).map(
    ({ id }) => id,
  );

void t.test('blocked: somebody waits for a slot; crowded: a whole batch waits', async (t) => {
  const live = open.map(holding);
  t.ok(isBlocked({ live, slots: 3, waiting: open }));
  t.notOk(isBlocked({ live, slots: 4, waiting: open }), 'a slot is free');
  t.notOk(isBlocked({ live, slots: 3, waiting: [] }), 'nobody waits');
  t.ok(isCrowded({ slots: 3, waiting: open }));
  t.notOk(isCrowded({ slots: 4, waiting: open }));
});

void t.test(
  'late ones get their share of the slots, and the rest of them wait behind who can be in time',
  async (t) => {
    const all = [...open, ...late];
    const [a, b, ...rest] = late.map(({ id }) => id);
    const first = open.map(({ id }) => id);
    t.strictSame(ordered(all, []), [a, b, ...first, ...rest], 'a tenth of 20 slots is for them');
    t.strictSame(
      ordered(all, [holding(waiting('x', NOW - 90_000, 500))]),
      [a, ...first, b, ...rest],
      'one has its slot',
    );
    const held = ['x', 'y', 'z'].map((id) => holding(waiting(id, NOW - 90_000, null)));
    t.strictSame(ordered(all, held), [...first, a, b, ...rest], 'requests without a budget count, too');
    t.strictSame(ordered(late, held), [a, b, ...rest], 'where nobody can be in time, the first who came');
  },
);

void t.test('in a crowd, who is hopeless at the pace that all get does not go before others', async (t) => {
  const paced = { ...sample, correction: { ...sample.correction, paceMs: 40 } };
  const urgent = waiting('urgent', NOW, 600);
  const patient = Array.from({ length: 4 }, (_, i) => waiting(`patient${i}`, NOW, 5_000 + i));
  const first = (all: readonly WaitingRequest[]): string | undefined => {
    const held = ['x', 'y'].map((id) => holding(waiting(id, NOW - 90_000, null)));
    return order(all, { now: NOW, slots: 5, kvRoom: 1e6, live: held, learned: nothingLearned }, paced, defaultPolicy)[0]
      ?.id;
  };
  t.equal(first([...patient.slice(0, 3), urgent]), 'urgent', 'while there is no crowd');
  t.equal(first([...patient, urgent]), 'patient0');
});

void t.test(
  'beyond what the shallowest exit can serve, budgets keep half as many again in time as a queue does',
  async (t) => {
    for (const perSecond of [45, 60, 80]) {
      const random = seeded(perSecond);
      let arrivedAt = 0;
      const requests = Array.from({ length: 400 }, (_, i): SimulatedRequest => {
        arrivedAt += (-1000 / perSecond) * Math.log(1 - random());
        const tokens = 10 + Math.floor(40 * random());
        return {
          ...{ id: `r${i}`, arrivedAt, promptLength: 20 + Math.floor(120 * random()), tokens, maxTokens: tokens },
          budget: { totalMs: 40 * tokens + 200, ttftMs: null, tpotMs: null, onMiss: 'continue' },
          ...{ minExit: null, maxExit: null, budgetClass: 'all' },
        };
      });
      const serve = (see: (request: SimulatedRequest) => SimulatedRequest): Outcome[] => {
        const actual = (work: Parameters<typeof predictMs>[1]): number => predictMs(sample, work) + 2;
        const run = simulate(requests.map(see), { slots: 16, kvPositions: 1e6, actual }, sample, defaultPolicy);
        for (let next = run.next(); ; next = run.next()) {
          if (next.done !== true) continue;
          const asked = new Map(requests.map((request) => [request.id, request]));
          return next.value.map((each) => ({ ...each, request: asked.get(each.request.id) ?? each.request }));
        }
      };
      const routed = serve((request) => request);
      const queued = serve((request) => ({ ...request, budget: null, minExit: 10, maxExit: 10 }));
      const met = (outcomes: readonly Outcome[]): number => outcomes.filter(isMet).length;
      t.ok(met(routed) >= 1.5 * met(queued), `${perSecond}/s: ${met(routed)} in time, ${met(queued)} by a queue`);
      t.ok(met(queued) < 400, 'it is too much for a queue');
      t.ok(
        routed.every(({ tokens, request }) => tokens === request.tokens),
        'the late ones are answered as well',
      );
    }
  },
);

void t.test('a first token that is late by now hurries nobody: those that can be in time are', async (t) => {
  const budget = { totalMs: null, ttftMs: 400, tpotMs: null, onMiss: 'continue' } as const;
  const requests = Array.from({ length: 400 }, (_, i): SimulatedRequest => ({
    ...{ id: `r${i}`, arrivedAt: i * 22, promptLength: 400, tokens: 4, maxTokens: 4, budget },
    ...{ minExit: null, maxExit: null, budgetClass: 'first' },
  }));
  const actual = (work: Parameters<typeof predictMs>[1]): number => predictMs(sample, work);
  const serve = (see: (request: SimulatedRequest) => SimulatedRequest): Outcome[] => {
    const run = simulate(requests.map(see), { slots: 16, kvPositions: 1e6, actual }, sample, defaultPolicy);
    for (let next = run.next(); ; next = run.next()) if (next.done === true) return next.value;
  };
  const inTime = (outcomes: readonly Outcome[]): number =>
    outcomes.filter(({ request, firstTokenAt }) => (firstTokenAt ?? Infinity) - request.arrivedAt <= budget.ttftMs)
      .length;
  const routed = inTime(serve((request) => request));
  const queued = inTime(serve((request) => ({ ...request, budget: null, minExit: 10, maxExit: 10 })));
  t.ok(queued < 100, `it is too much for a queue: ${queued} in time`);
  t.ok(routed > 3 * queued, `${routed} in time`);
});

void t.test('what was preempted after its first token is not late for it', async (t) => {
  const asks = { totalMs: null, ttftMs: 300, tpotMs: 100, onMiss: 'continue' } as const;
  const begun = { ...waiting('begun', NOW - 2_000, null), generated: 5, firstTokenAt: NOW - 1_900, budget: asks };
  const fresh = { ...waiting('fresh', NOW - 100, null), budget: asks };
  t.strictSame(ordered([begun, fresh], []), ['fresh', 'begun'], 'a first token is due before what is on its way');
});

void t.test('however few the slots, one is for those that are late or have no budget', async (t) => {
  const [a, ...rest] = late.map(({ id }) => id);
  t.strictSame(ordered([...open, ...late], [], 4), [a, ...open.map(({ id }) => id), ...rest]);
});

void t.test(
  'what is due first goes first: a first token before its answer, a tight pace before a loose one',
  async (t) => {
    const asks = { totalMs: null, ttftMs: null, tpotMs: null, onMiss: 'continue' } as const;
    const begins = { ...waiting('begins', NOW, null), budget: { ...asks, totalMs: 60_000, ttftMs: 1_000 } };
    t.strictSame(ordered([waiting('ends', NOW, 5_000), begins], []), ['begins', 'ends']);
    const loose = { ...waiting('loose', NOW - 100, null), budget: { ...asks, tpotMs: 100 } };
    const tight = { ...waiting('tight', NOW, null), budget: { ...asks, tpotMs: 20 } };
    t.strictSame(ordered([loose, tight], []), ['tight', 'loose']);
  },
);
