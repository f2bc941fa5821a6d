/** Properties that hold in any state, and for any traffic. */
import fc from 'fast-check';
import t from 'tap';
import {
  type Budget,
  defaultPolicy,
  isPastBudget,
  type OnMiss,
  type SequenceView,
  SPARE_SLOTS,
} from '../../src/router/index.js';
import { isGuaranteed, isMet } from '../../src/simulate/report.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { arrivals, budget, factor, larger, live, runs, state, waiting } from './arbitrary.js';
import { admission, leastOf, planOf, routerOf, serve, stateOf, total } from './fixtures.js';
import { layers } from './sample.js';

/** As many budgets between 20 and 40 ms as between 10 and 20 s. */
const anyTotal = fc.record({
  totalMs: fc.double({ min: 0, max: 1, noNaN: true }).map((share) => 20 * 1000 ** share),
  ttftMs: fc.constant(null),
  tpotMs: fc.constant(null),
  onMiss: fc.constantFrom<OnMiss>('continue', 'truncate'),
});

for (const isExactLength of [true, false]) {
  const kind = isExactLength ? 'exact' : 'estimated';

  void t.test(`a larger budget never begins a lone request shallower (${kind} length)`, async () => {
    const stated = fc.oneof(budget, anyTotal);
    fc.assert(
      fc.property(waiting, stated, factor, (request, small, times) => {
        const idle = stateOf({ now: request.arrivedAt });
        const begin = (with_: Budget): number => {
          const asks = { ...request, isExactLength, budget: { ...with_, onMiss: 'continue' as const } };
          const found = admission(routerOf(), asks, idle);
          return found.kind === 'admit' ? found.exit : 0;
        };
        const [shallow, deep] = [begin(small), begin(larger(small, times))];
        if (shallow > deep) throw new Error(`exit ${shallow}, with the larger budget ${deep}`);
      }),
      runs,
    );
  });

  void t.test(`a larger budget never plans a lone sequence shallower (${kind} length)`, async () => {
    fc.assert(
      fc.property(live, fc.oneof(budget, anyTotal), factor, (sequence, small, times) => {
        const plan = (with_: Budget): number => {
          const one = { ...sequence, isExactLength, budget: with_, serviceClass: 'guaranteed' as const };
          return planOf(routerOf(), stateOf({ now: 10_000, live: [one] })).exits.get(one.id) ?? 0;
        };
        const [shallow, deep] = [plan(small), plan(larger(small, times))];
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

void t.test('no sequence with a budget pauses', async (t) => {
  const isStated = ({ budget: stated }: SequenceView): boolean =>
    stated !== null && (stated.totalMs !== null || stated.ttftMs !== null || stated.tpotMs !== null);
  let pauses = 0;
  fc.assert(
    fc.property(state, (now) => {
      const mixed = now.live.map((each, i) => {
        const soon = { ...each, budget: total(now.now - each.arrivedAt + 100 + 20 * i) };
        return [{ ...each, budget: null, lastTokenAt: now.now }, each, soon][i % 3] ?? each;
      });
      const { paused } = planOf(routerOf(), { ...now, live: mixed });
      pauses += paused.length;
      return paused.every((id) => mixed.some((each) => each.id === id && !isStated(each)));
    }),
    { ...runs, numRuns: 600 },
  );
  t.ok(pauses > 0, 'some sequences pause');
});

void t.test('a prefill is of a live prompt, and no longer than what it lacks', async () => {
  fc.assert(
    fc.property(state, (now) => {
      const router = routerOf();
      const { paused } = planOf(router, now);
      const prompts = now.live.filter(
        ({ frontier, promptLength, generated }) => (frontier[0] ?? 0) < promptLength + generated - 1,
      );
      const summary = {
        ...{ now: now.now, liveIds: now.live.map(({ id }) => id), waiting: now.waiting.length, hasBudgets: true },
        promptIds: new Set(prompts.map(({ id }) => id)),
      };
      const chunks = router.choosePrefill(summary, new Set(paused), () => now);
      return chunks.every(({ id, positions }) => {
        const prompt = prompts.find((each) => each.id === id);
        return prompt !== undefined && positions > 0 && positions < prompt.promptLength + prompt.generated;
      });
    }),
    runs,
  );
});

void t.test('the order of service holds each waiting request once', async () => {
  fc.assert(
    fc.property(state, (now) => {
      const ids = (all: readonly { id: string }[]): string[] => all.map(({ id }) => id).sort();
      return ids(routerOf().order(now)).join() === ids(now.waiting).join();
    }),
    runs,
  );
});

void t.test('only onMiss reject rejects, and a rejection names a budget above the one that was asked for', async () => {
  fc.assert(
    fc.property(state, waiting, budget, (now, request, wanted) => {
      const found = admission(routerOf(), { ...request, budget: wanted }, now);
      if (found.kind === 'admit') return true;
      return wanted.onMiss === 'reject' && (found.leastFeasibleMs ?? 1) > 0;
    }),
    runs,
  );
});

void t.test('a guaranteed budget is predicted within each of its parts', async () => {
  fc.assert(
    fc.property(state, waiting, budget, (now, request, wanted) => {
      const found = admission(routerOf(), { ...request, budget: wanted }, now);
      if (found.kind === 'reject' || found.serviceClass !== 'guaranteed') return true;
      const { totalMs, ttftMs, tpotMs } = found.prediction;
      return (
        totalMs <= (wanted.totalMs ?? Infinity) &&
        ttftMs <= Math.min(totalMs, wanted.ttftMs ?? Infinity) &&
        tpotMs <= (wanted.tpotMs ?? Infinity)
      );
    }),
    runs,
  );
});

void t.test('numbers of an admission are sane in any state', async () => {
  fc.assert(
    fc.property(state, waiting, (now, request) => {
      const found = admission(routerOf(), request, now);
      if (found.kind === 'reject') return;
      const { ttftMs, tpotMs, totalMs, p10Ms, p90Ms } = found.prediction;
      for (const ms of [ttftMs, totalMs, p10Ms, p90Ms]) if (!(ms > 0 && ms < 1e9)) throw new Error(`${ms} ms`);
      if (!(tpotMs >= 0)) throw new Error(`a TPOT of ${tpotMs} ms`);
      if (ttftMs > totalMs) throw new Error(`a first token after ${ttftMs} of ${totalMs} ms`);
      if (p10Ms > p90Ms) throw new Error(`10% within ${p10Ms} ms, 90% within ${p90Ms} ms`);
      const { expectedTokens, expectedTokensP90, probability } = found;
      if (expectedTokens < 1 || expectedTokensP90 < expectedTokens) throw new Error(`${expectedTokens} tokens`);
      if (expectedTokensP90 > request.maxTokens) throw new Error(`${expectedTokensP90} of ${request.maxTokens} tokens`);
      if (probability !== null && !(probability >= 0 && probability <= 1)) throw new Error(`${probability}`);
    }),
    runs,
  );
});

void t.test('the budget that a rejection names is admitted in the same state', async (t) => {
  const count = { tried: 0, loaded: 0 };
  fc.assert(
    fc.property(state, waiting, (now, request) => {
      const router = routerOf();
      const asks = { ...request, arrivedAt: now.now };
      const named = leastOf(router, asks, now);
      if (named === null) return true;
      count.tried += 1;
      if (now.live.length + now.waiting.length > 1) count.loaded += 1;
      return admission(router, { ...asks, budget: total(named, 'reject') }, now).kind === 'admit';
    }),
    runs,
  );
  t.ok(count.loaded > 50, `${count.loaded} of ${count.tried} with others`);
});

/** Slots and KV room from one sequence's worth to plenty. */
const limits = fc.record({
  slots: fc.integer({ min: 1, max: 12 }),
  kvPositions: fc.oneof(fc.constant(1e6), fc.integer({ min: 300, max: 1_200 }), fc.integer({ min: 300, max: 700 })),
});

void t.test('no token is lost, and every request ends', async (t) => {
  let preemptions = 0;
  let cut = 0;
  fc.assert(
    fc.property(arrivals, limits, (requests, machine) => {
      const { outcomes, steps } = serve(requests, { machine });
      preemptions += outcomes.reduce((sum, each) => sum + each.preemptions, 0);
      cut += outcomes.filter(({ reason }) => reason === 'deadline').length;
      if (new Set(outcomes.map(({ request }) => request.id)).size !== requests.length)
        throw new Error('lost a request');
      if (outcomes.length !== requests.length) throw new Error('a request ended twice');
      const isBound = machine.kvPositions < 1e6;
      const positions = requests.reduce((sum, { promptLength, lengths }) => sum + promptLength + (lengths[0] ?? 0), 0);
      if (!isBound && steps.length > positions) throw new Error(`${steps.length} steps for ${positions} positions`);
      for (const { now, live: held } of steps) {
        const need = held.reduce((sum, { promptLength, generated }) => sum + promptLength + generated, 0);
        const inBudget = held.filter((each) => !isPastBudget(each, now, defaultPolicy)).length;
        if (inBudget > machine.slots || held.length > machine.slots + SPARE_SLOTS)
          throw new Error(`${inBudget} and ${held.length - inBudget} past their budgets, of ${machine.slots} slots`);
        if (held.length > 1 && need > machine.kvPositions)
          throw new Error(`${need} of ${machine.kvPositions} positions`);
      }
      for (const { request, reason, tokens, path, firstTokenAt, endedAt } of outcomes) {
        const counted = path.reduce((sum, part) => sum + part.tokens, 0);
        if (counted !== tokens) throw new Error(`${counted} tokens on the path of ${tokens}`);
        if (path.some(({ exit }) => !layers.includes(exit))) throw new Error('an exit that is none');
        if (reason === 'length' && tokens !== request.lengths[0])
          throw new Error(`${tokens} tokens of ${request.lengths[0]}`);
        if (reason === 'length' && !(firstTokenAt !== null && firstTokenAt <= endedAt))
          throw new Error('no first token');
        if (reason === 'refused' && request.budget?.onMiss !== 'reject')
          throw new Error('rejected without being asked to');
        if (reason === 'deadline' && request.budget?.onMiss !== 'truncate')
          throw new Error('cut without being asked to');
      }
      return true;
    }),
    runs,
  );
  t.ok(preemptions > 10, `${preemptions} preemptions`);
  t.ok(cut > 10, `${cut} were cut`);
});

void t.test('truncate never ends late, and no more than a step with a chunk of a prompt early', async () => {
  fc.assert(
    fc.property(arrivals, fc.integer({ min: 20, max: 500 }), (requests, totalMs) => {
      const stated = requests.map((request): SimulatedRequest => ({ ...request, budget: total(totalMs, 'truncate') }));
      return serve(stated).outcomes.every(({ request, endedAt, reason }) => {
        const lateMs = endedAt - request.arrivedAt - totalMs;
        return reason === 'length' || (lateMs <= 1e-6 && lateMs >= -60);
      });
    }),
    runs,
  );
});

void t.test('in any mix of total budgets with exact lengths, 99 of 100 guarantees are kept', async (t) => {
  let guaranteed = 0;
  let kept = 0;
  for (const requests of fc.sample(arrivals, { numRuns: 150, seed: runs.seed })) {
    const stated = requests.map((request, i): SimulatedRequest => ({
      ...{ ...request, isExactLength: true, maxTokens: request.lengths[0] ?? 1 },
      budget: total(request.budget?.totalMs ?? 500 * (1 + (i % 5)), i % 3 === 0 ? 'reject' : 'continue'),
    }));
    const taken = serve(stated).outcomes.filter(isGuaranteed);
    guaranteed += taken.length;
    kept += taken.filter(isMet).length;
  }
  t.ok(kept >= 0.99 * guaranteed, `${kept} of ${guaranteed}`);
  t.ok(guaranteed > 500, 'there was something to keep');
});
