/** A machine that stalls, gets slow or comes back, and a clock that steps. */
import t from 'tap';
import { type Work, predictMs } from '../../src/engine/scheduler/cost/model.js';
import { isGuaranteed, isMet } from '../simulator/simulated-engine.js';
import { NOW, admission, admitted, asking, plannerOf, serve, simulated, stateOf, total, arrive } from './fixtures.js';
import { sample } from './sample.js';

const step = { decode: { rows: [0, 0, 0, 0, 4], context: 200 }, prefill: [] };

void t.test('an idle machine forgets a stall: after 30 s a budget is admitted that it rejected', async (t) => {
  const planner = plannerOf();
  const asks = (now: number) => asking('a', total(1000, 'reject'), { arrivedAt: now });
  t.equal(admission(planner, asks(NOW)).kind, 'admit');
  for (let i = 0; i < 3; i += 1) planner.observeStep(step, { cycleMs: 5000, planningMs: 0 });
  t.equal(admission(planner, asks(NOW), stateOf()).kind, 'reject');
  const now = NOW + 60_000;
  t.equal(admission(planner, asks(now), stateOf({ now })).kind, 'admit');
  t.ok(planner.model.drift.slowdown < 2, `${planner.model.drift.slowdown}`);
});

void t.test('clocks that go back break nothing', async (t) => {
  const planner = plannerOf();
  t.equal(admission(planner, asking('a', total(2000), { arrivedAt: NOW + 500 })).kind, 'admit', 'from the future');
  arrive(planner, asking('b', total(500)), NOW + 10_000);
  arrive(planner, asking('c', total(500)), NOW);
  const late = admission(planner, asking('d', total(2000), { arrivedAt: NOW - 1e7 }));
  t.match(late, { kind: 'admit', serviceClass: 'best_effort' });
  t.equal(admitted(planner, asking('e', total(20_000))).serviceClass, 'guaranteed');
});

void t.test(
  'a stall of 5 s in a simulation: every request ends, and within 30 s guarantees are kept as before',
  async (t) => {
    const requests = Array.from({ length: 200 }, (_, i) => simulated(`r${i}`, i * 400, total(1500)));
    let isStalled = false;
    const actual = (work: Work, now: number): number => {
      const isFirst = !isStalled && now > 20_000;
      isStalled ||= isFirst;
      return predictMs(sample, work) + (isFirst ? 5000 : 0);
    };
    const { outcomes, scheduler } = serve(requests, { machine: { actual } });
    t.equal(outcomes.length, 200);
    t.ok(isStalled);
    const share = (from: number, to: number): number => {
      const some = outcomes.filter(({ request: { arrivedAt } }) => arrivedAt >= from && arrivedAt < to);
      return some.filter((each) => isGuaranteed(each) && isMet(each)).length / some.length;
    };
    t.ok(share(5_000, 15_000) > 0.95, `before: ${share(5_000, 15_000)}`);
    t.ok(share(18_600, 25_000) < 0.5, `beside the stall: ${share(18_600, 25_000)}`);
    t.ok(share(50_000, 80_000) > 0.95, `after 30 s: ${share(50_000, 80_000)}`);
    t.ok(Math.abs(scheduler.model.drift.slowdown - 1) < 0.1, `${scheduler.model.drift.slowdown}`);
  },
);

void t.test('a machine that gets half as fast in the middle keeps its later guarantees', async (t) => {
  const requests = Array.from({ length: 200 }, (_, i) => simulated(`r${i}`, i * 300, total(900)));
  const { outcomes, scheduler } = serve(requests, {
    machine: { actual: (work, now) => predictMs(sample, work) * (now > 20_000 ? 2 : 1) },
  });
  const later = outcomes.filter((each) => each.request.arrivedAt > 25_000 && isGuaranteed(each));
  const kept = later.filter(isMet).length;
  t.ok(later.length > 20, `${later.length} guarantees`);
  t.ok(kept >= 0.98 * later.length, `${kept} of ${later.length}`);
  t.ok(Math.abs(scheduler.model.drift.slowdown - 2) < 0.2, `${scheduler.model.drift.slowdown}`);
});
