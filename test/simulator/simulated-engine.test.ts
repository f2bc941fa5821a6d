/** The machine-like parts of the simulator: memory that runs out, and steps that take longer than expected. */
import fc from 'fast-check';
import t from 'tap';
import { type Work, predictMs } from '../../src/engine/scheduler/cost/model.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Machine } from './machine.js';
import type { SimulatedRequest } from './simulated-request.js';
import { seeded } from '../../bench/loadgen/random.js';
import { arrivals } from '../scheduler/arbitrary.js';
import { type Run, serve as serveAll } from '../scheduler/fixtures.js';
import { sample, shape } from '../scheduler/sample.js';

const exact = (work: Work): number => predictMs(sample, work);

/** The same request with a length that is known to the scheduler. */
function exactly(request: SimulatedRequest): SimulatedRequest {
  const tokens = Math.min(request.maxTokens, request.lengths.at(-1) ?? 1);
  return { ...request, lengths: shape.exits.map(() => tokens), maxTokens: tokens, isExactLength: true };
}

function serve(requests: readonly SimulatedRequest[], machine: Partial<Machine>): Run {
  return serveAll(requests.map(exactly), { policy: defaultPolicy, lengths: null, machine: { slots: 8, ...machine } });
}

void t.test('truncated answers on a noisy machine are rarely late, and by at most one step', async (t) => {
  let cut = 0;
  let late = 0;
  for (const [i, requests] of fc.sample(arrivals, { numRuns: 60, seed: 7 }).entries()) {
    const stated = requests.map((request): SimulatedRequest => ({
      ...request,
      budget: { totalMs: 150 + ((i * 37) % 350), ttftMs: null, tpotMs: null, onMiss: 'truncate' },
    }));
    const random = seeded(i);
    const noise = (now: number): number => (0.65 + 0.7 * random()) * (now % 2500 < 800 ? 2 : 1);
    const { outcomes, steps } = serve(stated, { actual: (work, now) => exact(work) * noise(now) });
    const longest = steps.reduce((most, { ms }) => Math.max(most, ms), 0);
    for (const { request, endedAt, reason } of outcomes) {
      const lateMs = endedAt - request.arrivedAt - (request.budget?.totalMs ?? 0);
      t.ok(lateMs <= Math.max(longest, 50), `${lateMs} ms late, the longest step took ${longest} ms`);
      if (reason !== 'deadline') continue;
      cut++;
      if (lateMs > 0) late++;
    }
  }
  t.ok(cut > 50, `${cut} were cut`);
  t.ok(late <= 0.15 * cut, `${late} of ${cut} late`);
});

void t.test('prefill leaves the last position of a prompt to a decode row, which yields the first token', async (t) => {
  const [one] = fc.sample(arrivals, { numRuns: 1, seed: 1 })[0] ?? [];
  if (one === undefined) throw new Error('a sample has a request');
  const served = (promptLength: number, tokens: number) => {
    const request = { ...one, budget: null, promptLength, lengths: [tokens], maxTokens: tokens };
    const { steps } = serve([request], {});
    const rows = steps.map(({ work }) => work.decode?.rows.reduce((sum, count) => sum + count, 0) ?? 0);
    const positions = steps.map(({ work }) => work.prefill.reduce((sum, each) => sum + each.positions, 0));
    return { rows, positions };
  };
  t.match(served(100, 2), { rows: [1, 1], positions: [99, 0] });
  t.match(served(1, 2), { rows: [1, 1], positions: [0, 0] });
});

void t.test('a request with a budget does not wait for an answer whose budget is over', async (t) => {
  const request = (id: string, arrivedAt: number, tokens: number, totalMs: number): SimulatedRequest => ({
    ...{ id, arrivedAt, promptLength: 8, lengths: shape.exits.map(() => tokens), maxTokens: tokens },
    ...{ isExactLength: true, kind: 'chat', minExit: null, maxExit: null },
    budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'continue' },
    budgetClass: 'all',
  });
  const { outcomes } = serve([request('endless', 0, 2000, 20), request('next', 100, 4, 1000)], { slots: 1 });
  const [next, endless] = outcomes;
  t.same([next?.request.id, endless?.request.id], ['next', 'endless']);
  t.ok((next?.endedAt ?? Infinity) < 1100, `${next?.endedAt} ms`);
  t.equal(endless?.tokens, 2000);
});
