/** More than the machine can serve: what can still be in time is, and late requests make room. */
import fc from 'fast-check';
import t from 'tap';
import { predictMs } from '../../src/engine/scheduler/cost/model.js';
import { isMet } from '../simulator/outcomes.js';
import type { SimulatedRequest } from '../simulator/simulated-request.js';
import { seeded } from '../../bench/loadgen/random.js';
import { serve, simulated, total } from './fixtures.js';
import { layers, sample } from './sample.js';
import type { Outcome } from '../simulator/simulated-engine.js';

/** The same requests without budgets at the shallowest exit: a queue. Judged by the budgets all the same. */
function queued(requests: readonly SimulatedRequest[], machine = {}): Outcome[] {
  const { outcomes } = serve(
    requests.map((request) => ({ ...request, budget: null, minExit: 10, maxExit: 10 })),
    { machine },
  );
  const asked = new Map(requests.map((request) => [request.id, request]));
  return outcomes.map((each) => ({ ...each, request: asked.get(each.request.id) ?? each.request }));
}

void t.test('beyond what the shallowest exit can serve, more budgets are kept than by a queue', async (t) => {
  const machine = { actual: (work: Parameters<typeof predictMs>[1]): number => predictMs(sample, work) + 2 };
  for (const perSecond of [45, 80]) {
    const random = seeded(perSecond);
    let arrivedAt = 0;
    const requests = Array.from({ length: 300 }, (_, i) => {
      arrivedAt += (-1000 / perSecond) * Math.log(1 - random());
      const tokens = 10 + Math.floor(40 * random());
      const promptLength = 20 + Math.floor(120 * random());
      const more = { promptLength, maxTokens: tokens, lengths: layers.map(() => tokens) };
      return simulated(`r${i}`, arrivedAt, total(40 * tokens + 200), more);
    });
    const routed = serve(requests, { machine }).outcomes;
    const [ours, theirs] = [routed.filter(isMet).length, queued(requests, machine).filter(isMet).length];
    t.ok(ours > theirs, `${perSecond}/s: ${ours} in time, ${theirs} by a queue`);
    t.ok(theirs < 300, 'it is too much for a queue');
    t.ok(
      routed.every(({ tokens, request }) => tokens === request.lengths[0]),
      'late requests are answered as well',
    );
  }
});

void t.test('depth gives way before budgets do', async (t) => {
  const at = (gapMs: number): { inTime: number; depth: number } => {
    const requests = Array.from({ length: 100 }, (_, i) => simulated(`r${i}`, i * gapMs, total(1200)));
    const { outcomes } = serve(requests);
    const parts = outcomes.flatMap(({ path }) => path);
    const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
    const depth = parts.reduce((sum, part) => sum + part.exit * part.tokens, 0) / tokens;
    return { inTime: outcomes.filter(isMet).length, depth };
  };
  const [idle, busy] = [at(1000), at(90)];
  t.equal(idle.depth, 30);
  t.equal(idle.inTime, 100);
  t.ok(busy.depth < 29 && busy.depth > 10, `mean depth ${busy.depth}`);
  t.ok(busy.inTime >= 97, `${busy.inTime} of 100 in time`);
});

void t.test('a greater load never keeps more budgets, but for one request in twenty', async () => {
  const request = fc.record({
    gapMs: fc.integer({ min: 1, max: 1500 }),
    promptLength: fc.integer({ min: 10, max: 200 }),
    tokens: fc.constantFrom(3, 12, 26, 45, 99, 200, 500),
    isTight: fc.boolean(),
  });
  const budgets = fc.constantFrom(
    { tight: total(1000, 'land'), loose: total(4000, 'land') },
    { tight: total(500, 'land'), loose: total(2000, 'land') },
    { tight: total(300, 'land'), loose: total(8000, 'land') },
    { tight: total(1000, 'land'), loose: null },
  );
  fc.assert(
    fc.property(fc.array(request, { minLength: 20, maxLength: 20 }), budgets, (all, { tight, loose }) => {
      const attainment = (speed: number): number => {
        let arrivedAt = 0;
        const requests = all.map(({ gapMs, promptLength, tokens, isTight }, i) => {
          arrivedAt += gapMs / speed;
          const more = { promptLength, lengths: layers.map(() => tokens), maxTokens: 2000, isExactLength: false };
          return simulated(`r${i}`, arrivedAt, isTight ? tight : loose, more);
        });
        return serve(requests, { lengths: null }).outcomes.filter(isMet).length / requests.length;
      };
      const [idle, usual, heavy] = [attainment(0.1), attainment(1), attainment(8)];
      return idle >= usual - 0.05 && usual >= heavy - 0.05 && idle >= heavy - 0.05;
    }),
    { numRuns: 12, seed: 51 },
  );
});
