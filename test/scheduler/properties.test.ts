/** Properties that hold in any state. Those of whole runs are in traffic.test.ts. */
import fc from 'fast-check';
import t from 'tap';
import type { Budget, OnMiss } from '../../src/protocol/index.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import { hasBudget } from '../../src/protocol/outcome.js';
import { cases } from '../support/cases.js';
import { holds, budget, factor, larger, runs, state, waiting } from './arbitrary.js';
import { admission, asking, changed, natural, planOf, plannerOf, stateOf, total, within, arrive } from './fixtures.js';
import { layers } from './sample.js';

/** As many budgets between 20 and 40 ms as between 10 and 20 s. */
const anyTotal = fc.record({
  totalMs: fc.double({ min: 0, max: 1, noNaN: true }).map((share) => 20 * 1000 ** share),
  ttftMs: fc.constant(null),
  tpotMs: fc.constant(null),
  onMiss: fc.constantFrom<OnMiss>('land', 'continue', 'truncate'),
});

for (const isExactLength of [true, false]) {
  const kind = isExactLength ? 'exact' : 'estimated';

  void t.test(`a larger budget never begins a lone request shallower (${kind} length)`, async () => {
    const stated = fc.oneof(budget, anyTotal);
    fc.assert(
      fc.property(waiting, stated, factor, (request, small, times) => {
        const idle = stateOf({ now: request.arrivedAt });
        const begin = (with_: Budget): number => {
          const asks = changed(request, {
            isExactLength,
            budget: { ...with_, onMiss: isExactLength ? 'continue' : 'land' },
          });
          const found = admission(plannerOf(), asks, idle);
          return found.kind === 'admit' ? found.exit : 0;
        };
        const [shallow, deep] = [begin(small), begin(larger(small, times))];
        if (shallow > deep) throw new Error(`exit ${shallow}, with the larger budget ${deep}`);
      }),
      runs,
    );
  });
}

holds(
  'every plan stays within the bounds of its request, and on the exits of the model',
  state,
  waiting,
  (now, request) => {
    const found = admission(plannerOf(), request, now);
    const { exits, paused } = planOf(plannerOf(), now);
    const isWithinBounds = (each: { minExit: number; maxExit: number }, exit: number): boolean =>
      layers.indexOf(exit) >= each.minExit && layers.indexOf(exit) <= each.maxExit;
    return (
      (found.kind === 'reject' || isWithinBounds(request, found.exit)) &&
      paused.every((id) => exits.has(id)) &&
      now.live.every((each) => isWithinBounds(each, exits.get(each.id) ?? 0))
    );
  },
);

holds('an answer that has begun keeps its exit', state, (now) => {
  const { exits } = planOf(plannerOf(), now);
  const hasBegun = (each: Sequence): boolean =>
    each.generated > 0 && each.frontier(each.exit) >= each.tokens.length - 1;
  return now.live.every((each) => !hasBegun(each) || exits.get(each.id) === layers[each.exit]);
});

void t.test('no promised sequence pauses, and no prompt', async (t) => {
  let pauses = 0;
  fc.assert(
    fc.property(state, (now) => {
      const planner = plannerOf();
      for (let i = 0; i < 200; i += 1) arrive(planner, asking(`past${i}`, total(2000, 'land'), natural), 9_000 + 5 * i);
      const mixed = now.live.map((each, i) => {
        const soon = within(each, total(now.now - each.arrivedAt + 900 + 200 * i, 'land'));
        return [changed(each, { budget: null, lastTokenAt: now.now }), soon, each][i % 3] ?? each;
      });
      const { paused } = planOf(planner, { ...now, live: mixed });
      pauses += paused.length;
      const mayPause = ({ budget: stated, generated, arrivedAt, serviceClass }: Sequence): boolean => {
        const isOpen = stated?.totalMs != null || stated?.tpotMs != null;
        const isOver = stated?.totalMs != null && arrivedAt + stated.totalMs < now.now + 12;
        return generated > 0 && (serviceClass !== 'guaranteed' || !isOpen || isOver);
      };
      return paused.every((id) => mixed.some((each) => each.id === id && mayPause(each)));
    }),
    { ...runs, numRuns: cases(300) },
  );
  t.ok(pauses > 0, 'some sequences pause');
});

holds('chunks are of live prompts, each at most once, and no longer than what it lacks', state, (now) => {
  const { exits, chunks } = planOf(plannerOf(), now);
  if (new Set(chunks.map(({ id }) => id)).size !== chunks.length) return false;
  return chunks.every(({ id, positions }) => {
    const prompt = now.live.find((each) => each.id === id);
    if (prompt === undefined) return false;
    const exit = layers.indexOf(exits.get(id) ?? 0);
    const done = Math.min(...layers.slice(0, exit + 1).map((_, unit) => prompt.frontier(unit)));
    return positions > 0 && positions <= prompt.tokens.length - 1 - done;
  });
});

holds('while prompts wait and no row has an exact length to keep, one goes on', state, (now) => {
  const free = now.live.map((each) => {
    const stated = each.budget?.totalMs == null ? null : total(each.budget.totalMs, 'land');
    return changed(each, { isExactLength: false, budget: stated });
  });
  const isPrompt = (each: Sequence): boolean => each.frontier(0) < each.tokens.length - 1;
  const { chunks } = planOf(plannerOf(), { ...now, live: free });
  return chunks.length > 0 || !free.some(isPrompt);
});

holds('the order of service holds each waiting request once, unless it is hopeless', state, (now) => {
  const ids = now.waiting.map(({ id }) => id);
  const { hopeless, order } = plannerOf().serviceOrder(now);
  const found = [...order, ...hopeless.filter(({ slot }) => slot === null)];
  return (
    found
      .map(({ id }) => id)
      .sort()
      .join() === ids.sort().join()
  );
});

void t.test('only reject and land reject, what reject admits is guaranteed, and the rest names a budget', async (t) => {
  let rejected = 0;
  fc.assert(
    fc.property(state, waiting, budget, (now, request, wanted) => {
      const found = admission(plannerOf(), within(request, wanted), now);
      if (found.kind === 'admit')
        return wanted.onMiss !== 'reject' || !hasBudget(wanted) || found.serviceClass === 'guaranteed';
      rejected += 1;
      const mayReject = wanted.onMiss === 'reject' || within(request, wanted).isRefusable;
      return mayReject && (found.leastFeasibleMs ?? 1) > 0;
    }),
    runs,
  );
  t.ok(rejected > 10, `${rejected} rejected`);
});

holds('numbers of an admission are sane in any state', state, waiting, (now, request) => {
  const found = admission(plannerOf(), request, now);
  if (found.kind === 'reject') return true;
  const { predictedTtftMs: ttftMs, predictedTpotMs: tpotMs, predictedMs: totalMs } = found;
  const { predictedP10Ms: p10Ms, predictedP90Ms: p90Ms } = found;
  for (const ms of [ttftMs, totalMs, p10Ms, p90Ms]) if (!(ms > 0 && ms < 1e9)) throw new Error(`${ms} ms`);
  if (!(tpotMs >= 0)) throw new Error(`a TPOT of ${tpotMs} ms`);
  if (p10Ms > totalMs || totalMs > p90Ms) throw new Error(`${p10Ms}, ${totalMs}, ${p90Ms} ms`);
  const { expectedTokens, expectedTokensP90, probability } = found;
  if (expectedTokens < 1 || expectedTokensP90 < expectedTokens) throw new Error(`${expectedTokens} tokens`);
  if (expectedTokensP90 > request.maxTokens) throw new Error(`${expectedTokensP90} of ${request.maxTokens} tokens`);
  if (probability !== null && !(probability >= 0 && probability <= 1)) throw new Error(`${probability}`);
  return true;
});

void t.test('the budget that a rejection names is admitted in the same state, for all choices', async (t) => {
  const count = { tried: 0, loaded: 0, narrow: 0 };
  const room = fc.oneof(fc.constant(1e6), fc.integer({ min: 200, max: 20_000 }));
  fc.assert(
    fc.property(state, waiting, fc.integer({ min: 1, max: 8 }), room, (free, request, choices, kvPositions) => {
      const now = { ...free, kvPositions };
      const asks = (totalMs: number): Sequence[] =>
        Array.from({ length: choices }, (_, i) =>
          changed(request, { id: `choice${i}`, arrivedAt: now.now, budget: total(totalMs, 'reject') }),
        );
      const named = plannerOf()
        .admit(asks(1), now)
        .map((each) => (each.kind === 'reject' ? each.leastFeasibleMs : 0));
      const [least = null] = named;
      if (least === null) return true;
      count.tried += 1;
      if (now.live.length + now.waiting.length > 1) count.loaded += 1;
      if (kvPositions < 1e6) count.narrow += 1;
      const again = plannerOf().admit(asks(Math.max(...named.map((ms) => ms ?? 0))), now);
      return again.every(({ kind }) => kind === 'admit');
    }),
    runs,
  );
  t.ok(count.loaded > 20 && count.narrow > 20, JSON.stringify(count));
});

holds('a request that is guaranteed beside others is guaranteed alone', state, waiting, (now, request) => {
  const classOf = (at: typeof now): string | null => {
    const found = admission(plannerOf(), request, at);
    return found.kind === 'admit' ? found.serviceClass : null;
  };
  return classOf(now) !== 'guaranteed' || classOf({ ...now, live: [], waiting: [] }) === 'guaranteed';
});
