/** The prediction of an answer when its request is admitted. */
import t from 'tap';
import { predictMs } from '../../src/engine/scheduler/cost/model.js';
import type { Admitted, Budget } from '../../src/protocol/index.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import {
  NOW,
  admission,
  admitted,
  asking,
  natural,
  outcomeOf,
  plannerOf,
  serve,
  simulated,
  stateOf,
  total,
  answering,
  prompting,
} from './fixtures.js';
import { layers, sample } from './sample.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';

const predictionOf = (request: Sequence, waiting: readonly Sequence[] = []): Admitted =>
  admitted(plannerOf(), request, stateOf({ waiting }));
const isNear = (found: number, expected: number): boolean => Math.abs(found - expected) < 1e-6 * Math.max(1, expected);

void t.test('times count from arrival, not from admission', async (t) => {
  const soon = predictionOf(asking('a', total(9000)));
  const late = predictionOf(asking('a', total(9000), { arrivedAt: NOW - 400 }));
  t.ok(isNear(late.predictedMs - soon.predictedMs, 400), `${late.predictedMs} and ${soon.predictedMs}`);
  t.ok(isNear(late.predictedTtftMs - soon.predictedTtftMs, 400));
});

for (const budget of [null, total(900, 'reject'), total(900), total(60), total(900, 'truncate')]) {
  void t.test(`first token, TPOT and total fit together: ${JSON.stringify(budget)}`, async (t) => {
    const {
      predictedTtftMs: ttftMs,
      predictedTpotMs: tpotMs,
      predictedMs: totalMs,
    } = predictionOf(asking('a', budget));
    t.ok(ttftMs > 0 && tpotMs > 0 && ttftMs <= totalMs, `${ttftMs}, ${tpotMs}, ${totalMs}`);
    t.ok(isNear(ttftMs + tpotMs * 49, totalMs), `${ttftMs} + 49 x ${tpotMs}, not ${totalMs}`);
  });
}

for (const [name, budget, more] of [
  ['lands', total(400, 'land'), { ...natural, lengths: layers.map(() => 900) }],
  ['is cut', total(400, 'truncate'), { ...natural, lengths: layers.map(() => 900) }],
] as const) {
  void t.test(`an answer that ${name} ends within its budget, and is predicted so`, async (t) => {
    const plan = admitted(plannerOf(), asking('a', budget, natural));
    const { probability, expectedTokens, expectedTokensP90 } = plan;
    t.ok(plan.predictedMs <= 400 && plan.predictedP90Ms <= 400, JSON.stringify(plan));
    const { tokens, endedAt } = outcomeOf(serve([simulated('a', 0, budget, more)]).outcomes, 'a');
    t.ok(endedAt <= 400, `${endedAt} ms`);
    t.ok(expectedTokens <= expectedTokensP90 && expectedTokensP90 >= 0.7 * tokens, `${expectedTokensP90} of ${tokens}`);
    t.ok(expectedTokensP90 <= tokens + 24, `${expectedTokensP90} of ${tokens}`);
    t.ok(probability !== null && probability > 0 && probability <= 1, `${probability}`);
  });
}

for (const [name, budget, expected] of [
  ['without a total budget is not in question', { ...total(1), totalMs: null, ttftMs: 100 }, null],
  ['with time for all of an exact length is certain', total(60_000), 1],
  ['without time for an exact length is none', total(60), 0],
  ['of an answer that lands needs a sentence', total(60_000, 'land'), 1],
] as readonly (readonly [string, Budget, number | null])[]) {
  void t.test(`the probability to be in time ${name}`, async (t) => {
    const { probability } = admitted(plannerOf(), asking('a', budget, budget.onMiss === 'land' ? natural : {}));
    if (expected === null) t.equal(probability, null);
    else t.ok(Math.abs((probability ?? NaN) - expected) < 1e-9, `${probability}`);
  });
}

void t.test('the probability to be in time rises with the budget', async (t) => {
  for (const onMiss of ['land', 'continue'] as const) {
    let before = -1;
    for (let ms = 100; ms < 6000; ms *= 1.5) {
      const { probability } = admitted(plannerOf(), asking('a', total(ms, onMiss), natural));
      t.ok((probability ?? -1) >= before - 0.05, `${onMiss}, ${ms} ms: ${probability} after ${before}`);
      before = Math.max(before, probability ?? -1);
    }
    t.ok(before > 0.9, `${before}`);
  }
});

void t.test('an answer of one token has its first one as its last', async (t) => {
  for (const budget of [null, total(500), total(500, 'land')]) {
    const { predictedTtftMs: ttftMs, predictedMs: totalMs } = predictionOf(asking('a', budget, { maxTokens: 1 }));
    t.equal(ttftMs, totalMs);
  }
});

void t.test('a hopeless answer is predicted as it will be, at the shallowest exit', async (t) => {
  const one = { decode: { rows: [1, 0, 0, 0, 0], context: 225 }, prefill: [] };
  const leastMs = 50 * predictMs(sample, one);
  for (const ms of [20, 50]) {
    const { serviceClass, exit, predictedMs } = admitted(plannerOf(), asking('a', total(ms)));
    t.equal(serviceClass, 'best_effort');
    t.equal(exit, 10);
    t.ok(predictedMs >= leastMs && predictedMs < 3 * leastMs, `${predictedMs} of ${leastMs}`);
  }
  t.equal(admission(plannerOf(), asking('a', total(20, 'land'), natural)).kind, 'reject', 'where it could land');
});

void t.test('a first token is predicted by the order of deadlines, and behind them where it is hopeless', async (t) => {
  const waiting = Array.from({ length: 6 }, (_, i) => asking(`w${i}`, total(9000 + i, 'land'), natural));
  const ttftMs = (totalMs: number): number =>
    predictionOf(asking('a', total(totalMs, 'land'), natural), waiting).predictedTtftMs;
  t.ok(ttftMs(8000) < 0.5 * ttftMs(9900), `${ttftMs(8000)} ms, ${ttftMs(9900)} ms where it is due last`);
  const late = predictionOf(asking('a', total(60), natural), waiting).predictedTtftMs;
  t.ok(late > 2 * ttftMs(8000), `${late} ms where it is hopeless`);
});

void t.test('the bounds of the total are those of its length', async (t) => {
  const exact = predictionOf(asking('a', total(9000)));
  t.same(
    [exact.predictedP10Ms, exact.predictedP90Ms],
    [exact.predictedMs, exact.predictedMs],
    'an exact length has none',
  );
  const {
    predictedP10Ms: p10Ms,
    predictedMs: totalMs,
    predictedP90Ms: p90Ms,
    predictedTpotMs: tpotMs,
  } = predictionOf(asking('a', total(60_000), natural));
  // 20, 100 and 260 tokens by the prior.
  t.ok(Math.abs((totalMs - p10Ms) / tpotMs - 80) <= 3, `${(totalMs - p10Ms) / tpotMs} tokens below the median`);
  t.ok(Math.abs((p90Ms - totalMs) / tpotMs - 160) <= 5, `${(p90Ms - totalMs) / tpotMs} tokens above`);
});

for (const tokens of [1, 20, 200]) {
  void t.test(`a lone answer of ${tokens} tokens takes what was predicted, less the margin`, async (t) => {
    const request = simulated('a', 0, total(60_000), {
      promptLength: 113,
      lengths: layers.map(() => tokens),
      maxTokens: tokens,
    });
    const outcome = outcomeOf(serve([request], { policy: { margin: 0 } }).outcomes, 'a');
    if (outcome.admission.kind !== 'admit') throw new Error('it was to be admitted');
    const { predictedMs: totalMs, predictedTtftMs: ttftMs } = outcome.admission;
    t.ok(Math.abs(totalMs / outcome.endedAt - 1) < 0.05, `${totalMs} of ${outcome.endedAt} ms`);
    t.ok(Math.abs(ttftMs / (outcome.firstTokenAt ?? NaN) - 1) < 0.05, `${ttftMs} of ${outcome.firstTokenAt} ms`);
  });
}

void t.test('burst: each request is predicted with the others', async (t) => {
  const burst = Array.from({ length: 8 }, (_, i) => asking(`r${i}`, total(60_000)));
  const ends = plannerOf()
    .admit(burst, stateOf())
    .map((each) => (each.kind === 'admit' ? each.predictedMs : NaN));
  const alone = predictionOf(asking('r0', total(60_000))).predictedMs;
  t.ok((ends[0] ?? NaN) > 1.5 * alone, `${ends[0]} ms, ${alone} alone`);
  t.ok(Math.max(...ends) < 2 * Math.min(...ends), 'they run side by side');
  const { outcomes } = serve(
    burst.map(({ id }) => simulated(id, 0, total(60_000), { maxTokens: 50, lengths: layers.map(() => 50) })),
  );
  const last = Math.max(...outcomes.map(({ endedAt }) => endedAt));
  t.ok(Math.abs(Math.max(...ends) / last - 1) < 0.25, `${Math.max(...ends)} of ${last} ms`);
});

const planner = plannerOf();
const wait = (parts: Parameters<typeof stateOf>[0]): number => planner.predictedWaitMs(stateOf(parts));

void t.test('an idle server has no wait; a running answer is waited for by one step, at the depth that it has', (t) => {
  t.equal(wait({}), 0);
  for (const [i, exit] of layers.entries()) {
    const rows = layers.map((_, at) => Number(at === 0) + Number(at === i));
    const step = predictMs(sample, { decode: { rows, context: 240 }, prefill: [] });
    const one = wait({ live: [answering('a', null, { exit })] });
    t.ok(
      Math.abs(one / step / (1 + defaultPolicy.margin) - 1) < 0.05,
      `exit ${exit}: ${one} ms for a step of ${step} ms`,
    );
  }
  t.end();
});

void t.test('prompts are waited for in full, and answers ahead by their turns of the slots', (t) => {
  const one = wait({ live: [prompting('a', null)] });
  const two = wait({ live: [prompting('a', null), prompting('b', total(5000))] });
  t.ok(two > 1.8 * one, `${two} ms for two prompts, ${one} for one`);
  const deep = wait({ live: [prompting('a', null, { minExit: 30 })] });
  t.ok(deep > 2 * one, 'a prompt that may not get shallower is waited for at its depth');
  const live = [answering('a', null), answering('b', null)];
  const free = wait({ slots: 4, live });
  const full = wait({ slots: 2, live });
  t.ok(full > 10 * free, 'no slot is free');
  const waiting = ['c', 'd', 'e', 'f'].map((id) => asking(id, null));
  t.ok(wait({ slots: 2, live, waiting }) > 2 * full, 'others come first');
  t.end();
});

void t.test('a slower machine has a longer wait', (t) => {
  const live = [prompting('a', null), answering('b', null)];
  const slow = plannerOf({}, undefined, 2).predictedWaitMs(stateOf({ live }));
  t.ok(Math.abs(slow / wait({ live }) - 2) < 0.01);
  t.end();
});
