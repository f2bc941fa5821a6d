/** Properties that hold in any state. Those of whole runs are in traffic.test.ts. */
import fc from 'fast-check';
import t from 'tap';
import type { Budget, OnMiss, RequestView, SequenceView } from '../../src/scheduler/router.js';
import { hasBudget } from '../../src/protocol/early-end.js';
import { budget, factor, larger, runs, state, waiting } from './arbitrary.js';
import { admission, asking, natural, planOf, routerOf, stateOf, total, within, arrive, orderOf } from './fixtures.js';
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
          const asks = within({ ...request, isExactLength }, { ...with_, onMiss: isExactLength ? 'continue' : 'land' });
          const found = admission(routerOf(), asks, idle);
          return found.kind === 'admit' ? found.exit : 0;
        };
        const [shallow, deep] = [begin(small), begin(larger(small, times))];
        if (shallow > deep) throw new Error(`exit ${shallow}, with the larger budget ${deep}`);
      }),
      runs,
    );
  });
}

void t.test('every plan stays within the bounds of its request, and on the exits of the model', async () => {
  fc.assert(
    fc.property(state, waiting, (now, request) => {
      const found = admission(routerOf(), request, now);
      const { exits, paused } = planOf(routerOf(), now);
      const isWithinBounds = (each: { minExit: number; maxExit: number }, exit: number): boolean =>
        layers.includes(exit) && exit >= each.minExit && exit <= each.maxExit;
      return (
        (found.kind === 'reject' || isWithinBounds(request, found.exit)) &&
        paused.every((id) => exits.has(id)) &&
        now.live.every((each) => isWithinBounds(each, exits.get(each.id) ?? 0))
      );
    }),
    runs,
  );
});

void t.test('an answer that has begun keeps its exit', async () => {
  fc.assert(
    fc.property(state, (now) => {
      const { exits } = planOf(routerOf(), now);
      const hasBegun = ({ generated, exit, frontier, promptLength }: SequenceView): boolean =>
        generated > 0 && (frontier[layers.indexOf(exit)] ?? 0) >= promptLength + generated - 1;
      return now.live.every((each) => !hasBegun(each) || exits.get(each.id) === each.exit);
    }),
    runs,
  );
});

void t.test('no promised sequence pauses, and no prompt', async (t) => {
  let pauses = 0;
  fc.assert(
    fc.property(state, (now) => {
      const router = routerOf();
      for (let i = 0; i < 200; i += 1) arrive(router, asking(`past${i}`, total(2000, 'land'), natural), 9_000 + 5 * i);
      const mixed = now.live.map((each, i) => {
        const soon = within(each, total(now.now - each.arrivedAt + 900 + 200 * i, 'land'));
        return [{ ...within(each, null), lastTokenAt: now.now }, soon, each][i % 3] ?? each;
      });
      const { paused } = planOf(router, { ...now, live: mixed });
      pauses += paused.length;
      const mayPause = ({ budget: stated, generated, arrivedAt, serviceClass }: SequenceView): boolean => {
        const isOpen = stated?.totalMs != null || stated?.tpotMs != null;
        const isOver = stated?.totalMs != null && arrivedAt + stated.totalMs < now.now + 12;
        return generated > 0 && (serviceClass !== 'guaranteed' || !isOpen || isOver);
      };
      return paused.every((id) => mixed.some((each) => each.id === id && mayPause(each)));
    }),
    { ...runs, numRuns: 300 },
  );
  t.ok(pauses > 0, 'some sequences pause');
});

void t.test('chunks are of live prompts, each at most once, and no longer than what it lacks', async () => {
  fc.assert(
    fc.property(state, (now) => {
      const { exits, chunks } = planOf(routerOf(), now);
      if (new Set(chunks.map(({ id }) => id)).size !== chunks.length) return false;
      return chunks.every(({ id, positions }) => {
        const prompt = now.live.find((each) => each.id === id);
        if (prompt === undefined) return false;
        const stages = layers.indexOf(exits.get(id) ?? 0) + 1;
        const done = Math.min(...prompt.frontier.slice(0, stages));
        return positions > 0 && positions <= prompt.promptLength + prompt.generated - 1 - done;
      });
    }),
    runs,
  );
});

void t.test('while prompts wait and no row has an exact length to keep, one goes on', async () => {
  fc.assert(
    fc.property(state, (now) => {
      const free = now.live.map((each) => {
        const stated = each.budget?.totalMs == null ? null : total(each.budget.totalMs, 'land');
        return within({ ...each, isExactLength: false }, stated);
      });
      const isPrompt = ({ generated, frontier, promptLength }: SequenceView): boolean =>
        (frontier[0] ?? 0) < promptLength + generated - 1;
      const { chunks } = planOf(routerOf(), { ...now, live: free });
      return chunks.length > 0 || !free.some(isPrompt);
    }),
    runs,
  );
});

void t.test('the order of service holds each waiting request once', async () => {
  fc.assert(
    fc.property(state, (now) => {
      const ids = (all: readonly { id: string }[]): string[] => all.map(({ id }) => id).sort();
      return [...orderOf(routerOf(), now)].sort().join() === ids(now.waiting).join();
    }),
    runs,
  );
});

void t.test('only onMiss reject rejects, what it admits is guaranteed, and the rest names a budget', async (t) => {
  let rejected = 0;
  fc.assert(
    fc.property(state, waiting, budget, (now, request, wanted) => {
      const found = admission(routerOf(), within(request, wanted), now);
      if (found.kind === 'admit')
        return wanted.onMiss !== 'reject' || !hasBudget(wanted) || found.serviceClass === 'guaranteed';
      rejected += 1;
      return wanted.onMiss === 'reject' && (found.leastFeasibleMs ?? 1) > 0;
    }),
    runs,
  );
  t.ok(rejected > 10, `${rejected} rejected`);
});

void t.test('numbers of an admission are sane in any state', async () => {
  fc.assert(
    fc.property(state, waiting, (now, request) => {
      const found = admission(routerOf(), request, now);
      if (found.kind === 'reject') return;
      const { predictedTtftMs: ttftMs, predictedTpotMs: tpotMs, predictedMs: totalMs } = found;
      const { predictedP10Ms: p10Ms, predictedP90Ms: p90Ms } = found;
      for (const ms of [ttftMs, totalMs, p10Ms, p90Ms]) if (!(ms > 0 && ms < 1e9)) throw new Error(`${ms} ms`);
      if (!(tpotMs >= 0)) throw new Error(`a TPOT of ${tpotMs} ms`);
      if (p10Ms > totalMs || totalMs > p90Ms) throw new Error(`${p10Ms}, ${totalMs}, ${p90Ms} ms`);
      const { expectedTokens, expectedTokensP90, probability } = found;
      if (expectedTokens < 1 || expectedTokensP90 < expectedTokens) throw new Error(`${expectedTokens} tokens`);
      if (expectedTokensP90 > request.maxTokens) throw new Error(`${expectedTokensP90} of ${request.maxTokens} tokens`);
      if (probability !== null && !(probability >= 0 && probability <= 1)) throw new Error(`${probability}`);
    }),
    runs,
  );
});

void t.test('the budget that a rejection names is admitted in the same state, for all choices', async (t) => {
  const count = { tried: 0, loaded: 0 };
  fc.assert(
    fc.property(state, waiting, fc.integer({ min: 1, max: 8 }), (now, request, choices) => {
      const asks = (totalMs: number): RequestView[] =>
        Array.from({ length: choices }, (_, i) =>
          within({ ...request, id: `choice${i}`, arrivedAt: now.now }, total(totalMs, 'reject')),
        );
      const named = routerOf()
        .admit(asks(1), now)
        .map((each) => (each.kind === 'reject' ? each.leastFeasibleMs : 0));
      const [least = null] = named;
      if (least === null) return true;
      count.tried += 1;
      if (now.live.length + now.waiting.length > 1) count.loaded += 1;
      const again = routerOf().admit(asks(Math.max(...named.map((ms) => ms ?? 0))), now);
      return again.every(({ kind }) => kind === 'admit');
    }),
    runs,
  );
  t.ok(count.loaded > 50, `${count.loaded} of ${count.tried} with others`);
});

void t.test('a request that is guaranteed beside others is guaranteed alone', async () => {
  fc.assert(
    fc.property(state, waiting, (now, request) => {
      const classOf = (at: typeof now): string | null => {
        const found = admission(routerOf(), request, at);
        return found.kind === 'admit' ? found.serviceClass : null;
      };
      return classOf(now) !== 'guaranteed' || classOf({ ...now, live: [], waiting: [] }) === 'guaranteed';
    }),
    runs,
  );
});
