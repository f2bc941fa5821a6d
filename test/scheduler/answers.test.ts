/** Requests over time: how deep an answer is, when it lands, what its client is told and gets. */
import t, { type Test } from 'tap';
import type { Budget } from '../../src/protocol/index.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { isGuaranteed, isMet } from '../simulator/outcomes.js';
import type { SimulatedRequest } from '../simulator/simulated-request.js';
import { seeded } from '../../bench/loadgen/random.js';
import { outcomeOf, serve, simulated, total } from './fixtures.js';
import { layers } from './sample.js';

/** Longer than nearly all answers of the prior; no client says so. */
const long: Partial<SimulatedRequest> = { lengths: layers.map(() => 900), maxTokens: 1024, isExactLength: false };

for (const totalMs of [150, 300, 800, 2000, 6000]) {
  void t.test(`a lone answer with ${totalMs} ms that land keeps its exit, and is guaranteed and in time`, async (t) => {
    const outcome = outcomeOf(serve([simulated('a', 0, total(totalMs, 'land'), long)]).outcomes, 'a');
    t.equal(outcome.path.length, 1);
    t.ok(isGuaranteed(outcome) && isMet(outcome), `${outcome.reason} at ${outcome.endedAt} ms`);
    if (totalMs >= 300 && totalMs < 6000) t.equal(outcome.reason, 'landed');
    if (totalMs >= 800) t.ok(outcome.endedAt > 0.7 * totalMs, `${outcome.endedAt} ms: it uses its budget`);
  });
}

interface Load {
  readonly count: number;
  /** Multiples of what the machine serves at full depth without batching. */
  readonly load: number;
  readonly isExactLength?: boolean;
  readonly budgetOf: (i: number, aloneMs: number) => Budget | null;
}

/** Requests as a Poisson process, prompts and answers of many lengths. */
function poisson({ count, load, isExactLength = true, budgetOf }: Load, seed = 1): SimulatedRequest[] {
  const random = seeded(seed);
  let arrivedAt = 0;
  return Array.from({ length: count }, (_, i) => {
    const tokens = Math.min(300, Math.ceil(-60 * Math.log(1 - random())));
    const promptLength = 20 + Math.floor(300 * random());
    // A request at full depth by itself: 0.3 ms a position, 5.3 ms a token.
    const alone = 0.3 * promptLength + 5.3 * tokens;
    arrivedAt += ((0.3 * 170 + 5.3 * 60) / load) * -Math.log(1 - random());
    const maxTokens = isExactLength ? tokens : 1024;
    const more = { promptLength, maxTokens, isExactLength, lengths: layers.map(() => tokens) };
    return simulated(`r${i}`, arrivedAt, budgetOf(i, alone), more);
  });
}

const mixed = (i: number, alone: number): Budget => total(60 + alone * ([2, 4, 10][i % 3] ?? 2));
const lands = (i: number, alone: number): Budget => ({ ...mixed(i, alone), onMiss: 'land' });

for (const [name, isExactLength, budgetOf] of [
  ['exact lengths', true, mixed],
  ['answers that land', false, lands],
] as const) {
  void t.test(`with ${name} at load 0.8, 99 of 100 guarantees are kept, and most budgets have one`, async (t) => {
    const { outcomes } = serve(poisson({ count: 400, load: 0.8, isExactLength, budgetOf }));
    const guaranteed = outcomes.filter(isGuaranteed);
    const kept = guaranteed.filter(isMet).length;
    t.ok(kept >= 0.99 * guaranteed.length, `${kept} of ${guaranteed.length}`);
    t.ok(guaranteed.length >= 240, `${guaranteed.length} of 400`);
    t.ok(outcomes.filter(isMet).length >= 0.95 * 400, `${outcomes.filter(isMet).length} of 400 in time`);
  });
}

/** Milliseconds until the first token of one request in the middle of closed-loop clients without budgets. */
function ttftAmong(t: Test, budget: Budget | null): number {
  const others = Array.from({ length: 120 }, (_, i) =>
    simulated(`r${i}`, 0, null, { isExactLength: false, maxTokens: 256 }),
  );
  const requests = others.toSpliced(60, 0, simulated('budgeted', 0, budget, { isExactLength: false, maxTokens: 256 }));
  const { outcomes } = serve(requests, { machine: { slots: 16, clients: 20 } });
  t.equal(outcomes.length, 121, 'every request ends');
  const { request, firstTokenAt } = outcomeOf(outcomes, 'budgeted');
  if (firstTokenAt === null) throw new Error('the request was to be served');
  return firstTokenAt - request.arrivedAt;
}

void t.test('starvation: a budget among closed-loop clients without any is no disadvantage', async (t) => {
  const free = ttftAmong(t, null);
  for (const ms of [50, 200, 1000, 20_000]) {
    const ttftMs = ttftAmong(t, total(ms));
    t.ok(ttftMs <= 3 * free, `${ms} ms: first token after ${ttftMs} ms, ${free} ms without a budget`);
  }
});

void t.test(
  'starvation: a request without a budget ends within twice 1/share of its own time among tight ones',
  async (t) => {
    const answer = { lengths: layers.map(() => 30), maxTokens: 30 };
    // Twice what the machine can serve, for as long as the request lives.
    const tight = Array.from({ length: 400 }, (_, i) => simulated(`tight${i}`, i * 25, total(600, 'reject'), answer));
    const free = simulated('free', 1000, null, answer);
    const all = [...tight, free].sort((a, b) => a.arrivedAt - b.arrivedAt);
    const served = outcomeOf(serve(all, { machine: { slots: 8 } }).outcomes, 'free');
    const alone = outcomeOf(serve([free]).outcomes, 'free');
    const tookMs = served.endedAt - 1000;
    const ownMs = alone.endedAt - 1000;
    t.ok(tookMs <= (2 * ownMs) / defaultPolicy.noBudgetShare, `${tookMs} ms of ${ownMs} ms alone`);
    t.same(served.path, [{ exit: 30, tokens: 30 }], 'at full depth all along');
  },
);

void t.test('starvation: under a Poisson load of 2 every request ends whole, with a budget and without', async (t) => {
  const budgetOf = (i: number, alone: number): Budget | null => (i % 3 === 0 ? null : mixed(i, alone));
  for (const isExactLength of [true, false]) {
    const requests = poisson({ count: 300, load: 2, isExactLength, budgetOf }, 3);
    const { outcomes } = serve(requests);
    t.equal(outcomes.length, 300);
    t.ok(
      outcomes.every(({ tokens, request }) => tokens === request.lengths[0]),
      'no token is lost',
    );
    t.ok(
      outcomes.every(({ endedAt }) => endedAt < 3 * (requests.at(-1)?.arrivedAt ?? 0)),
      'nor does any request wait for ever',
    );
  }
});
