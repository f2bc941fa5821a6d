/** Properties of whole runs: any traffic, any limits of slots and memory. */
import fc from 'fast-check';
import t from 'tap';
import type { OnMiss } from '../../src/protocol/index.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { isGuaranteed, isMet } from '../simulator/outcomes.js';
import type { SimulatedRequest } from '../simulator/simulated-request.js';
import { arrivals, runs } from './arbitrary.js';
import { positionsHeld, serve, total } from './fixtures.js';
import { layers } from './sample.js';

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
      for (const step of steps) {
        const { live } = step;
        const need = positionsHeld(step);
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

/** Share of guarantees that are kept in many runs. */
function keptIn(change: (request: SimulatedRequest, i: number) => SimulatedRequest): { kept: number; of: number } {
  let [kept, of] = [0, 0];
  for (const requests of fc.sample(arrivals, { numRuns: 80, seed: runs.seed })) {
    const taken = serve(requests.map(change)).outcomes.filter(isGuaranteed);
    of += taken.length;
    kept += taken.filter(isMet).length;
  }
  return { kept, of };
}
const totalOf = ({ budget }: SimulatedRequest, i: number): number => budget?.totalMs ?? 500 * (1 + (i % 5));
const exact = { isExactLength: true } as const;
const long = { isExactLength: false, maxTokens: 256, lengths: layers.map(() => 200) } as const;
const onMissOf = (i: number): OnMiss => (['land', 'reject', 'continue', 'truncate'] as const)[i % 4] ?? 'land';

/** Name, share that is kept at least, change. Best effort takes time that no promise counts. */
const mixes: readonly (readonly [string, number, (request: SimulatedRequest, i: number) => SimulatedRequest])[] = [
  [
    'exact lengths',
    0.965,
    (each, i) => {
      const tokens = each.lengths[0] ?? 1;
      return {
        ...each,
        ...exact,
        maxTokens: tokens,
        budget: total(totalOf(each, i), i % 3 === 0 ? 'reject' : 'continue'),
      };
    },
  ],
  [
    'long answers that land or do not begin',
    0.99,
    (each, i) => ({ ...each, ...long, budget: total(totalOf(each, i), 'reject') }),
  ],
  ['long answers that land', 0.98, (each, i) => ({ ...each, ...long, budget: total(totalOf(each, i), 'land') })],
  [
    'long answers, with every rule for late ones',
    0.93,
    (each, i) => ({ ...each, ...long, budget: total(totalOf(each, i), onMissOf(i)) }),
  ],
  [
    'rows without a budget beside answers that land',
    0.96,
    (each, i) => ({ ...each, ...long, budget: i % 3 === 0 ? null : total(totalOf(each, i), 'land') }),
  ],
  ['any budgets and lengths', 0.95, (each) => each],
];
for (const [name, least, change] of mixes) {
  void t.test(`of guarantees to ${name}, ${least} and more are kept`, async (t) => {
    const { kept, of } = keptIn(change);
    t.ok(kept >= least * of, `${kept} of ${of}`);
    t.ok(of > 200, `there was something to keep: ${of}`);
  });
}
