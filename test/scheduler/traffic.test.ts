/** Properties of whole runs: any traffic, any limits of slots and memory. */
import fc from 'fast-check';
import t from 'tap';
import type { OnMiss } from '../../src/protocol/index.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { isGuaranteed, isMet } from '../simulator/simulated-engine.js';
import type { SimulatedRequest } from '../simulator/simulated-request.js';
import { predictMs } from '../../src/engine/scheduler/cost/model.js';
import { seeded } from '../../bench/loadgen/random.js';
import { arrivals, runs } from './arbitrary.js';
import { serve, total } from './fixtures.js';
import { layers, sample } from './sample.js';

/** Slots and KV room from one sequence's worth to plenty. */
const limits = fc.record({
  slots: fc.integer({ min: 1, max: 12 }),
  kvPositions: fc.oneof(fc.constant(1e6), fc.integer({ min: 300, max: 1_200 }), fc.integer({ min: 300, max: 700 })),
});

void t.test('no token is lost, and every request ends once, as its budget allows', async (t) => {
  let preemptions = 0;
  const ends = { length: 0, landed: 0, deadline: 0, rejected: 0 };
  fc.assert(
    fc.property(arrivals, limits, (requests, machine) => {
      const { outcomes, steps } = serve(requests, { machine });
      preemptions += outcomes.reduce((sum, each) => sum + each.preemptions, 0);
      if (new Set(outcomes.map(({ request }) => request.id)).size !== requests.length)
        throw new Error('lost a request');
      if (outcomes.length !== requests.length) throw new Error('a request ended twice');
      for (const { live } of steps) {
        // Positions at full depth that take as much memory as the sequences do at their exits.
        const held = live.map(({ promptLength, generated, exit }) => ((promptLength + generated) * exit) / 30);
        const need = held.reduce((sum, each) => sum + each, 0);
        if (live.length > machine.slots) throw new Error(`${live.length} of ${machine.slots} slots`);
        if (live.length > 1 && need > machine.kvPositions) throw new Error(`${need} of ${machine.kvPositions}`);
      }
      for (const { request, reason, tokens, path, firstTokenAt, endedAt } of outcomes) {
        ends[reason] += 1;
        const counted = path.reduce((sum, part) => sum + part.tokens, 0);
        if (counted !== tokens) throw new Error(`${counted} tokens on the path of ${tokens}`);
        if (path.length > 1) throw new Error(`${path.length} exits`);
        if (path.some(({ exit }) => !layers.includes(exit))) throw new Error('an exit that is none');
        if (reason === 'length' && tokens !== request.lengths[0])
          throw new Error(`${tokens} tokens of ${request.lengths[0]}`);
        if (tokens > (request.lengths[0] ?? 0)) throw new Error(`${tokens} tokens of ${request.lengths[0]}`);
        if (tokens > 0 && !(firstTokenAt !== null && firstTokenAt <= endedAt)) throw new Error('no first token');
        const onMiss = request.budget?.onMiss;
        const isTimed = onMiss === 'land' || onMiss === 'reject';
        if (reason === 'rejected' && !isTimed) throw new Error('rejected without being asked to');
        if (reason === 'landed' && (!isTimed || request.isExactLength))
          throw new Error('landed without being asked to');
        if (reason === 'deadline' && !isTimed && onMiss !== 'truncate') throw new Error('cut without being asked to');
      }
    }),
    { ...runs, numRuns: 80 },
  );
  t.ok(preemptions > 10, `${preemptions} preemptions`);
  for (const [reason, count] of Object.entries(ends)) t.ok(count > 0, `${reason}: ${count}`);
});

for (const onMiss of ['truncate', 'land'] as const satisfies OnMiss[]) {
  void t.test(`${onMiss} never ends late, nor long before the deadline where it cuts`, async (t) => {
    let cut = 0;
    fc.assert(
      fc.property(arrivals, fc.integer({ min: 20, max: 500 }), (requests, totalMs) => {
        const budget = total(totalMs, onMiss);
        const stated = requests.map((each): SimulatedRequest => {
          return { ...each, budget, isExactLength: false, maxTokens: 256, lengths: layers.map(() => 256) };
        });
        for (const { request, endedAt, reason } of serve(stated).outcomes) {
          const lateMs = endedAt - request.arrivedAt - totalMs;
          if (lateMs > 1e-6) throw new Error(`${reason} ${lateMs} ms late`);
          if (reason !== 'deadline') continue;
          cut += 1;
          // A step takes its chunks, and its rows.
          if (lateMs < -defaultPolicy.maxStallMs - 50) throw new Error(`cut ${-lateMs} ms early`);
        }
      }),
      runs,
    );
    // Most requests without time for a sentence are refused.
    t.ok(cut > (onMiss === 'land' ? 10 : 50), `${cut} were cut`);
  });
}

void t.test('on a noisy machine answers are rarely cut late, and by at most one step', async (t) => {
  let [cut, late] = [0, 0];
  for (const [i, requests] of fc.sample(arrivals, { numRuns: 60, seed: 7 }).entries()) {
    const stated = requests.map((each) => ({ ...each, budget: total(150 + ((i * 37) % 350), 'truncate') }));
    const random = seeded(i);
    const noise = (now: number): number => (0.65 + 0.7 * random()) * (now % 2500 < 800 ? 2 : 1);
    const { outcomes, steps } = serve(stated, {
      machine: { slots: 8, actual: (work, now) => predictMs(sample, work) * noise(now) },
    });
    const longest = steps.reduce((most, { ms }) => Math.max(most, ms), 50);
    for (const { request, endedAt, reason } of outcomes.filter(({ tokens }) => tokens > 0)) {
      const lateMs = endedAt - request.arrivedAt - (request.budget?.totalMs ?? 0);
      if (lateMs > longest) t.fail(`${lateMs} ms late, the longest step took ${longest} ms`);
      if (reason === 'deadline') cut += 1;
      if (reason === 'deadline' && lateMs > 0) late += 1;
    }
  }
  t.ok(cut > 50 && late <= 0.15 * cut, `${late} of ${cut} late`);
});

void t.test('of guarantees to any budgets and lengths, 95 of 100 and more are kept', async (t) => {
  const all = fc.sample(arrivals, { numRuns: 80, seed: runs.seed });
  const taken = all.flatMap((requests) => serve(requests).outcomes.filter(isGuaranteed));
  const kept = taken.filter(isMet).length;
  t.ok(kept >= 0.95 * taken.length, `${kept} of ${taken.length}`);
  t.ok(taken.length > 200, `there was something to keep: ${taken.length}`);
});
