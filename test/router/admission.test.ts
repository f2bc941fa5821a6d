/** Service class, exit and prediction of a request that arrives, or the least budget that would be guaranteed. */
import t from 'tap';
import { predictMs } from '../../src/cost/model.js';
import type { Admission, Budget, RequestView, Router } from '../../src/router/index.js';
import { isGuaranteed, isMet } from '../../src/simulate/report.js';
import {
  NOW,
  admission,
  admitted,
  answering,
  asking,
  leastOf,
  planOf,
  prompting,
  routerOf,
  serve,
  simulated,
  stateOf,
  total,
  unstated,
} from './fixtures.js';
import { layers, sample } from './sample.js';

/** A chat request as clients send it: no statement of its length. */
const natural = (id: string, budget: Budget | null, more: Partial<RequestView> = {}): RequestView =>
  asking(id, budget, { maxTokens: 1024, isExactLength: false, ...more });
const headroomOf = (router: Router, request: RequestView, waiting: readonly RequestView[] = []): number =>
  admitted(router, request, stateOf({ waiting })).headroom;
const classOf = (router: Router, request: RequestView, waiting: readonly RequestView[] = []): string =>
  admitted(router, request, stateOf({ waiting })).serviceClass;
const answerOf = (tokens: number, promptLength: number) => {
  return { promptLength, maxTokens: tokens, lengths: layers.map(() => tokens) };
};
/** Tight requests that have kept arriving until NOW. */
function arriving(router: Router, gapMs: number, more: Partial<RequestView> = {}, budget = total(200)): Router {
  for (let at = NOW - 3000; at < NOW; at += gapMs) {
    router.enqueued(asking(`past${at}`, budget, { arrivedAt: at, maxTokens: 10, ...more }), at);
  }
  return router;
}

void t.test('cold start: a lone request with a loose budget and no stated length begins at full depth', async (t) => {
  for (const router of [routerOf(), routerOf({}, null)]) {
    const found = admitted(router, natural('a', total(20_000)));
    t.equal(found.exit, 30);
    t.equal(found.serviceClass, 'guaranteed');
    t.ok((found.probability ?? 0) > 0.95 && (found.probability ?? 0) <= 1, `${found.probability}`);
    t.ok(found.expectedTokens >= 90 && found.expectedTokens <= 110, `${found.expectedTokens} tokens`);
    t.ok(found.expectedTokensP90 > 2 * found.expectedTokens, `${found.expectedTokensP90} tokens at most in 9 of 10`);
    const { p10Ms, totalMs, p90Ms, ttftMs } = found.prediction;
    t.ok(p10Ms < totalMs && totalMs < p90Ms && p90Ms < 20_000, `${p10Ms} < ${totalMs} < ${p90Ms}`);
    t.ok(ttftMs > 30 && ttftMs < 150, `${ttftMs} ms for a prompt of 200 positions`);
  }
});

void t.test('cold start: a budget that is over before an answer is best effort at a shallow exit', async (t) => {
  for (const promptLength of [100, 200, 600]) {
    const found = admitted(routerOf(), natural('a', total(50), { promptLength }));
    t.equal(found.serviceClass, 'best_effort', `${promptLength} positions`);
    t.ok(found.exit <= 15, `${promptLength} positions: exit ${found.exit}`);
    t.ok((found.probability ?? 1) < 0.2, `${promptLength} positions: ${found.probability}`);
    const { p10Ms, totalMs, p90Ms } = found.prediction;
    t.ok(p10Ms <= totalMs && totalMs <= p90Ms, `${promptLength} positions: ${p10Ms} < ${totalMs} < ${p90Ms}`);
  }
});

void t.test('a larger total never begins shallower, nor in a lower service class, for a lone request', async (t) => {
  const ranks = ['best_effort', 'reserved', 'guaranteed'];
  for (const promptLength of [20, 100, 200, 600]) {
    for (const isExactLength of [true, false]) {
      let [exit, rank, probability] = [0, 0, 0];
      for (let ms = 20; ms < 30_000; ms *= 1.2) {
        const maxTokens = isExactLength ? 50 : 1024;
        const found = admitted(routerOf(), asking('a', total(ms), { promptLength, isExactLength, maxTokens }));
        const name = `${promptLength} positions, ${isExactLength ? 'exact' : 'natural'} length, ${Math.round(ms)} ms`;
        if (found.exit < exit) t.fail(`${name}: exit ${found.exit} after ${exit}`);
        if (ranks.indexOf(found.serviceClass) < rank)
          t.fail(`${name}: ${found.serviceClass} after ${ranks[rank] ?? ''}`);
        // At a deeper exit an answer may be less likely in time.
        if (found.exit === exit && (found.probability ?? 0) < probability - 0.01) {
          t.fail(`${name}: probability ${found.probability} after ${probability}`);
        }
        [exit, rank, probability] = [found.exit, ranks.indexOf(found.serviceClass), found.probability ?? 0];
      }
      t.equal(exit, 30);
      t.equal(ranks[rank], 'guaranteed');
    }
  }
});

void t.test('a hopeless budget has no probability', async (t) => {
  for (const ms of [20, 50, 100, 140]) {
    const { serviceClass, probability } = admitted(routerOf(), asking('a', total(ms)));
    t.equal(serviceClass, 'best_effort', `${ms} ms`);
    t.ok((probability ?? 1) < 0.05, `${ms} ms: ${probability}`);
  }
});

void t.test('a request without a budget has no class, no probability, and full depth', async (t) => {
  for (const budget of [null, unstated]) {
    t.match(admitted(routerOf(), natural('a', budget)), { exit: 30, serviceClass: 'none', probability: null });
    t.equal(admitted(routerOf(), natural('a', budget, { maxExit: 20 })).exit, 20);
  }
});

void t.test('a request that may be rejected is guaranteed or rejected', async (t) => {
  for (let ms = 50; ms < 20_000; ms *= 1.5) {
    const found = admission(routerOf(), natural('a', total(ms, 'reject')));
    if (found.kind === 'admit') t.equal(found.serviceClass, 'guaranteed', `${ms} ms`);
    else t.ok((found.leastFeasibleMs ?? 0) > ms, `${ms} ms: ${found.leastFeasibleMs}`);
  }
});

void t.test('the least feasible budget is admitted, and much less is not', async (t) => {
  for (const ask of [asking('a', null), natural('a', null), natural('a', null, { promptLength: 1200 })]) {
    const router = routerOf();
    const least = leastOf(router, ask) ?? NaN;
    t.equal(admission(router, { ...ask, budget: total(least, 'reject') }).kind, 'admit', `${least} ms`);
    t.equal(admission(router, { ...ask, budget: total(0.9 * least, 'reject') }).kind, 'reject');
  }
});

void t.test('the least feasible budget counts from arrival', async (t) => {
  const least = (arrivedAt: number): number => leastOf(routerOf(), asking('a', null, { arrivedAt })) ?? NaN;
  t.equal(least(NOW - 400), least(NOW) + 400);
});

void t.test('a rejection under a floor of quality names the deepest exit below it that keeps the budget', async (t) => {
  const ask = natural('a', null, { minExit: 25, openExit: 10 });
  const bestOf = (ms: number, more: Partial<RequestView> = {}): number | null | undefined => {
    const found = admission(routerOf(), { ...ask, budget: total(ms, 'reject'), ...more });
    return found.kind === 'reject' ? found.bestExit : 0;
  };
  const least = leastOf(routerOf(), { ...ask, budget: total(1, 'reject') }) ?? NaN;
  const lower = leastOf(routerOf(), { ...ask, minExit: 10, budget: total(1, 'reject') }) ?? NaN;
  t.ok(lower < least, `${lower} < ${least}`);
  t.equal(bestOf(1), null, 'no exit');
  t.equal(bestOf(1.1 * least), 0, 'admitted');
  const best = bestOf(lower + 0.7 * (least - lower)) ?? 0;
  t.ok(best >= 10 && best < 25, `exit ${best}`);
  t.equal(bestOf(lower + 0.7 * (least - lower), { openExit: 25 }), null, 'no exit below the bound of the client');
});

void t.test('plans go by the quality that a request carries', async (t) => {
  const exitOf = (quality?: readonly number[]): number =>
    admitted(routerOf(), asking('a', total(20_000), quality && { quality })).exit;
  t.equal(exitOf(), 30);
  t.equal(exitOf(layers.map(() => 0.9)), 10, 'without a gain in quality, no time is spent on depth');
});

void t.test('a rejection names no budget where arrivals leave room for none', async (t) => {
  t.type(leastOf(routerOf(), asking('a', null, { promptLength: 2000, maxTokens: 500 })), 'number');
  const long = { promptLength: 2000, maxTokens: 500 };
  t.equal(leastOf(arriving(routerOf(), 5, long), asking('a', null, long)), null);
});

void t.test('capacity that is held takes headroom, and best effort takes none', async (t) => {
  const beside = (serviceClass: RequestView['serviceClass']): number =>
    headroomOf(
      routerOf(),
      asking('new', total(400)),
      Array.from({ length: 4 }, (_, i) => asking(`w${i}`, total(390 + i), { serviceClass })),
    );
  t.ok(beside('guaranteed') < 0.6 * beside('best_effort'), `${beside('guaranteed')} of ${beside('best_effort')}`);
  t.equal(beside('reserved'), beside('guaranteed'));
});

void t.test(
  'a new request takes no capacity that older guarantees hold: a full machine keeps all that it took',
  async (t) => {
    const large = (i: number) => simulated(`large${i}`, 0, total(600, 'reject'), answerOf(80, 200));
    const small = (i: number) => simulated(`small${i}`, 0, total(400, 'reject'), answerOf(20, 100));
    const { outcomes } = serve([
      ...Array.from({ length: 12 }, (_, i) => large(i)),
      ...Array.from({ length: 12 }, (_, i) => small(i)),
    ]);
    const taken = outcomes.filter(isGuaranteed);
    const missed = taken.filter((each) => !isMet(each)).map(({ request }) => request.id);
    t.ok(taken.length > 3 && taken.length < 24, `${taken.length} of 24 were taken`);
    t.same(missed, [], `${missed.length} of ${taken.length} missed`);
  },
);

void t.test('arrivals take headroom, unless the operator plans for none', async (t) => {
  const ask = asking('new', total(2000));
  t.ok(headroomOf(arriving(routerOf(), 100), ask) < 0.9 * headroomOf(routerOf(), ask));
  const policy = { arrivalHeadroom: 0 };
  t.equal(headroomOf(arriving(routerOf(policy), 100), ask), headroomOf(routerOf(policy), ask));
});

void t.test('an arrival counts with the positions that it has to prefill', async (t) => {
  const ask = asking('new', total(2000));
  const stored = arriving(routerOf(), 100, { expectedFrontier: layers.map(() => 190) });
  t.ok(headroomOf(stored, ask) > headroomOf(arriving(routerOf(), 100), ask));
});

void t.test('no guarantee is made out of the time of an older one, though the new request is due first', async (t) => {
  const beside = (ms: number): string =>
    classOf(routerOf(), asking('new', total(240)), [asking('a', total(ms)), asking('b', total(ms + 1))]);
  t.equal(beside(2000), 'reserved', 'there is time for all');
  t.equal(beside(270), 'best_effort', 'it would be in time, and the older ones would not');
});

void t.test('a prefix that another prompt brings by its turn needs no headroom', async (t) => {
  const led = asking('new', total(160), { expectedFrontier: layers.map(() => 190) });
  t.equal(classOf(routerOf(), asking('new', total(160))), 'best_effort');
  t.not(classOf(routerOf(), led), 'best_effort');
});

void t.test('a machine that is half as fast has half the headroom', async (t) => {
  const ask = asking('new', total(1000));
  const ratio = headroomOf(routerOf({}, null, 2), ask) / headroomOf(routerOf(), ask);
  t.ok(Math.abs(ratio - 0.5) < 1e-9, `${ratio}`);
});

void t.test('a step that blocks is no larger than the batch, however many requests wait', async (t) => {
  const beside = (count: number): number =>
    headroomOf(
      routerOf(),
      asking('new', total(500)),
      Array.from({ length: count }, (_, i) => asking(`w${i}`, null)),
    );
  t.ok(beside(16) > 0);
  t.equal(beside(300), beside(16));
});

void t.test('a missed guarantee costs headroom, and decays while nothing comes of it', async (t) => {
  const router = routerOf();
  const ask = asking('a', total(5000));
  const before = leastOf(router, ask) ?? NaN;
  for (let i = 0; i < 12; i += 1) {
    const taken = admitted(router, ask);
    t.equal(taken.serviceClass === 'guaranteed' || i > 0, true);
    const guaranteed = { ...taken, serviceClass: 'guaranteed' as const };
    router.observeEnd(ask, guaranteed, {
      firstTokenAt: NOW + 100,
      endedAt: NOW + 9000,
      path: [{ exit: 30, tokens: 50 }],
      reason: 'ended',
    });
  }
  const leastAt = (now: number): number => leastOf(router, { ...ask, arrivedAt: now }, stateOf({ now })) ?? NaN;
  t.ok(leastAt(NOW + 9000) > 1.5 * before, `${leastAt(NOW + 9000)} after ${before}`);
  t.ok(leastAt(NOW + 309_000) < 1.1 * before, `${leastAt(NOW + 309_000)} five minutes later`);
});

/** How a class of guarantee changed after an answer that ended at an instant: the least budget, compared. */
function leastAfter(budget: Budget, firstTokenAt: number, endedAt: number): number {
  const router = routerOf();
  const ask = asking('a', budget);
  const taken = admitted(router, ask);
  if (taken.serviceClass !== 'guaranteed')
    throw new Error(`the budget was to be guaranteed, not ${taken.serviceClass}`);
  for (let i = 0; i < 3; i += 1) {
    router.observeEnd(ask, taken, { firstTokenAt, endedAt, path: [{ exit: 30, tokens: 50 }], reason: 'ended' });
  }
  return leastOf(router, { ...ask, arrivedAt: endedAt }, stateOf({ now: endedAt })) ?? NaN;
}

void t.test(
  'a guarantee is kept when the client has the last byte in time, not the engine its last token',
  async (t) => {
    const due = NOW + 5000 - 12;
    const [kept, missed] = [leastAfter(total(5000), NOW + 100, due), leastAfter(total(5000), NOW + 100, due + 1)];
    t.ok(missed > 1.1 * kept, `${kept} and ${missed}`);
    const first = (at: number): number => leastAfter({ ...total(5000), ttftMs: 500 }, at, NOW + 800);
    t.ok(first(NOW + 900) > 1.1 * first(NOW + 100), 'a TTFT is part of the budget');
  },
);

void t.test('a cancelled answer teaches no latency', async (t) => {
  const router = routerOf();
  const ask = asking('a', null);
  const taken = admitted(router, ask);
  router.observeEnd(ask, taken, { firstTokenAt: null, endedAt: NOW + 60_000, path: [], reason: 'cancelled' });
  t.same(admitted(router, ask).prediction, taken.prediction);
});

void t.test('prediction: times count from arrival, not from admission', async (t) => {
  const soon = admitted(routerOf(), asking('a', null)).forecast;
  const late = admitted(routerOf(), asking('a', null, { arrivedAt: NOW - 400 })).forecast;
  t.ok(Math.abs(late.totalMs - soon.totalMs - 400) < 1e-9);
  t.ok(Math.abs(late.ttftMs - soon.ttftMs - 400) < 1e-9);
});

void t.test('prediction: first token, TPOT and total fit together', async (t) => {
  {
    const router = routerOf();
    for (const budget of [null, total(900, 'reject'), total(900), total(60), total(60, 'truncate')]) {
      const found = admission(router, asking('a', budget));
      if (found.kind === 'reject') continue;
      const { ttftMs, tpotMs, totalMs } = found.prediction;
      t.ok(ttftMs > 0 && tpotMs > 0 && ttftMs <= totalMs, `${ttftMs}, ${tpotMs}, ${totalMs}`);
      // An answer that will be cut ends at its deadline, and is no faster for it.
      if (budget?.onMiss === 'truncate') continue;
      t.ok(Math.abs(ttftMs + tpotMs * 49 - totalMs) < 1e-6 * totalMs, `${ttftMs} + 49 x ${tpotMs}, not ${totalMs}`);
    }
  }
});

void t.test('prediction: a long prompt with a short answer gets no TPOT that no step has', async (t) => {
  const ask = asking('a', null, { promptLength: 4000, maxTokens: 4 });
  const { prediction, forecast } = admitted(routerOf(), ask);
  const forecastMs = (forecast.totalMs - forecast.ttftMs) / 3;
  const ratio = prediction.tpotMs / (forecastMs * (prediction.totalMs / forecast.totalMs));
  t.ok(ratio > 0.49 && ratio < 2.01, `${prediction.tpotMs} ms: ${ratio} of ${forecastMs} ms`);
});

void t.test('prediction: an answer of one token has no TPOT', async (t) => {
  t.equal(admitted(routerOf(), asking('a', null, { maxTokens: 1 })).prediction.tpotMs, 0);
});

void t.test(
  'prediction: a guaranteed answer is within each part of its budget, and an answer that is cut ends',
  async (t) => {
    const budget = { ...total(700), ttftMs: 200, tpotMs: 12 };
    const kept = admitted(routerOf(), asking('a', { ...budget, onMiss: 'reject' }));
    t.equal(kept.serviceClass, 'guaranteed');
    t.ok(kept.prediction.totalMs <= 700 && kept.prediction.ttftMs <= 200 && kept.prediction.tpotMs <= 12);
    const [late, cut] = [
      admitted(routerOf(), asking('a', total(50))),
      admitted(routerOf(), asking('a', total(50, 'truncate'))),
    ];
    t.equal(cut.serviceClass, 'best_effort');
    t.equal(cut.prediction.totalMs, 50);
    t.ok(cut.prediction.ttftMs <= 50);
    t.equal(cut.prediction.tpotMs, late.prediction.tpotMs, 'no faster for it');
  },
);

void t.test('prediction: a hopeless answer is predicted as it will be, at the shallowest exit', async (t) => {
  const one = { decode: { rows: [1, 0, 0, 0, 0], context: 225 }, prefill: [] };
  const leastMs = 50 * predictMs(sample, one);
  for (const ms of [1, 20, 50]) {
    const { serviceClass, exit, prediction } = admitted(routerOf(), asking('a', total(ms)));
    t.equal(serviceClass, 'best_effort');
    t.equal(exit, 10);
    t.ok(prediction.totalMs >= leastMs, `${prediction.totalMs} of ${leastMs}`);
    t.ok(
      prediction.p10Ms <= prediction.totalMs && prediction.totalMs <= prediction.p90Ms,
      `${ms} ms: ${prediction.p10Ms} < ${prediction.totalMs} < ${prediction.p90Ms}`,
    );
  }
});

void t.test(
  'prediction: the TPOT that other sequences get lately is expected beside them, and not alone',
  async (t) => {
    const slow = (): Router => {
      const router = routerOf();
      const decode = { rows: [0, 0, 0, 0, 1], context: 200 };
      router.observeStep({ decode, prefill: [] }, router.predictMs({ decode, prefill: [] }));
      const prompt = { exit: 4, positions: 128, context: 0, chunk: 128 };
      for (let i = 0; i < 200; i += 1) {
        router.observeStep(
          { decode: null, prefill: [prompt] },
          router.predictMs({ decode: null, prefill: [prompt] }),
          true,
        );
      }
      return router;
    };
    const live = [answering('a', total(60_000))];
    const forecast = (router: Router, state = stateOf()): number =>
      admitted(router, asking('new', null), state).forecast.totalMs;
    t.ok(forecast(slow(), stateOf({ live })) > 1.5 * forecast(routerOf(), stateOf({ live })));
    t.ok(Math.abs(forecast(slow()) / forecast(routerOf()) - 1) < 0.05, 'alone');
  },
);

void t.test('the exit of an admission is the one that the request begins with: depth in force stays', async (t) => {
  const live = Array.from({ length: 8 }, (_, i) => answering(`live${i}`, total(2300)));
  const router = routerOf();
  const ask = asking('new', total(900));
  const { exit, serviceClass } = admitted(router, ask, stateOf({ live }));
  router.enqueued(ask, NOW);
  const { exits } = planOf(router, stateOf({ live: [...live, prompting('new', total(900), { exit, serviceClass })] }));
  t.ok((exits.get('new') ?? 0) <= exit, `${exits.get('new')} after ${exit}`);
  t.ok(exit < admitted(routerOf(), ask).exit, 'less than alone');
  for (const { id } of live) t.equal(exits.get(id), 30);
});

/** One after the other, each waiting while the next arrives. */
function apart(requests: readonly RequestView[]): Admission[] {
  const router = routerOf();
  let waiting: readonly RequestView[] = [];
  return requests.map((request) => {
    const found = admission(router, request, stateOf({ waiting }));
    if (found.kind === 'reject') return found;
    router.enqueued(request, NOW);
    waiting = [...waiting, { ...request, exit: found.exit, serviceClass: found.serviceClass }];
    return found;
  });
}
const together = (requests: readonly RequestView[]): Admission[] => routerOf().admit(requests, stateOf());
const forecastOf = (found: Admission | undefined): number => (found?.kind === 'admit' ? found.forecast.totalMs : NaN);

void t.test('burst: the first request expects what the last one does', async (t) => {
  const burst = Array.from({ length: 8 }, (_, i) => asking(`r${i}`, total(60_000)));
  const alone = forecastOf(together(burst.slice(0, 1))[0]);
  const ends = together(burst).map(forecastOf);
  t.ok((ends[0] ?? 0) > 2 * alone, 'not what it would get alone');
  t.equal(forecastOf(apart(burst)[0]), alone, 'as one by one');
  t.ok(Math.max(...ends) < 2 * Math.min(...ends), 'they run side by side');
});

void t.test('burst: capacity is given as if each request had come by itself', async (t) => {
  let made = 0;
  let rejected = 0;
  for (const onMiss of ['continue', 'reject'] as const) {
    for (const totalMs of [200, 400, 800, 1600]) {
      const burst = Array.from({ length: 12 }, (_, i) => asking(`r${i}`, total(totalMs * (1 + (i % 3)), onMiss)));
      const kinds = (all: readonly Admission[]) =>
        all.map((each) => (each.kind === 'admit' ? each.serviceClass === 'best_effort' : 'rejected'));
      const some = kinds(together(burst));
      t.strictSame(some, kinds(apart(burst)), `${onMiss} ${totalMs}`);
      made += some.filter((each) => each === false).length;
      rejected += some.filter((each) => each === 'rejected').length;
    }
  }
  t.ok(made > 10 && rejected > 10, `${made} made, ${rejected} rejected`);
});

void t.test('burst: a rejected request is no company', async (t) => {
  const some = Array.from({ length: 3 }, (_, i) => asking(`r${i}`, total(5_000)));
  const hopeless = Array.from({ length: 5 }, (_, i) => asking(`no${i}`, total(1, 'reject')));
  const all = together([...hopeless.slice(0, 2), ...some, ...hopeless.slice(2)]);
  t.same(
    all.map(({ kind }) => kind),
    ['reject', 'reject', 'admit', 'admit', 'admit', 'reject', 'reject', 'reject'],
  );
  const answerOf = (each: Admission) => each.kind === 'admit' && [each.exit, each.serviceClass, forecastOf(each)];
  t.strictSame(all.filter(({ kind }) => kind === 'admit').map(answerOf), together(some).map(answerOf));
});

void t.test('burst: arrivals of this instant are no sign of more to come', async (t) => {
  const burst = Array.from({ length: 4 }, (_, i) => asking(`r${i}`, total(5000)));
  for (const each of together(burst)) t.match(each, { kind: 'admit', forecast: { arrivals: 0 } });
});
