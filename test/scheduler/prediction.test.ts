/** The prediction of an answer when its request is admitted. */
import t from 'tap';
import { predictMs } from '../../src/engine/scheduler/cost/model.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import type { Occupancy } from '../../src/engine/scheduler/snapshot.js';
import type { Admitted, Budget } from '../../src/protocol/index.js';
import { NOW, admitted, answering, asking, natural, outcomeOf, plannerOf } from './fixtures.js';
import { prompting, serve, simulated, stateOf, total, unstated } from './fixtures.js';
import { simulatedScheduler } from '../simulator/machine.js';
import { layers, sample, shape, table } from './sample.js';

const predictionOf = (request: Sequence): Admitted => admitted(plannerOf(), request);
const isNear = (found: number, expected: number): boolean => Math.abs(found - expected) < 1e-6 * Math.max(1, expected);

void t.test('times count from arrival, not from admission', async (t) => {
  const soon = predictionOf(asking('a', total(9000)));
  const late = predictionOf(asking('a', total(9000), { arrivedAt: NOW - 400 }));
  t.ok(isNear(late.predictedMs - soon.predictedMs, 400), `${late.predictedMs} and ${soon.predictedMs}`);
  t.ok(isNear(late.predictedTtftMs - soon.predictedTtftMs, 400));
});

void t.test('first token, TPOT and total fit together, and bounds of the total are those of its length', async (t) => {
  for (const budget of [null, total(900, 'reject'), total(900), total(60), total(900, 'truncate')])
    for (const maxTokens of [1, 50]) {
      const found = predictionOf(asking('a', budget, { maxTokens }));
      const { predictedTtftMs: ttftMs, predictedTpotMs: tpotMs, predictedMs: totalMs } = found;
      t.ok(ttftMs > 0 && tpotMs > 0 && isNear(ttftMs + tpotMs * (maxTokens - 1), totalMs), JSON.stringify(found));
      t.same([found.predictedP10Ms, found.predictedP90Ms], [totalMs, totalMs], 'an exact length has no bounds');
    }
  const found = predictionOf(asking('a', total(60_000), natural));
  const tokensTo = (ms: number): number => (ms - found.predictedMs) / found.predictedTpotMs;
  // 20, 100 and 260 tokens by the prior.
  t.ok(Math.abs(tokensTo(found.predictedP10Ms) + 80) <= 3, `${tokensTo(found.predictedP10Ms)} tokens`);
  t.ok(Math.abs(tokensTo(found.predictedP90Ms) - 160) <= 5, `${tokensTo(found.predictedP90Ms)} tokens`);
});

for (const onMiss of ['land', 'truncate'] as const)
  void t.test(`an answer with ${onMiss} ends within its budget, and is predicted so`, async (t) => {
    const budget = total(400, onMiss);
    const plan = predictionOf(asking('a', budget, natural));
    const { expectedTokens, expectedTokensP90 } = plan;
    t.ok(plan.predictedMs <= 400 && plan.predictedP90Ms <= 400, JSON.stringify(plan));
    const more = { ...natural, lengths: layers.map(() => 900) };
    const { tokens, endedAt } = outcomeOf(serve([simulated('a', 0, budget, more)]).outcomes, 'a');
    t.ok(endedAt <= 400, `${endedAt} ms`);
    t.ok(expectedTokens <= expectedTokensP90, `${expectedTokens} and ${expectedTokensP90} tokens`);
    t.ok(expectedTokensP90 >= 0.7 * tokens && expectedTokensP90 <= tokens + 24, `${expectedTokensP90} of ${tokens}`);
  });

for (const [name, budget, expected] of [
  ['without a total budget is not in question', { ...unstated, ttftMs: 100 }, null],
  ['with time for all of an exact length is certain', total(60_000), 1],
  ['without time for an exact length is none', total(60), 0],
  ['of an answer that lands needs a sentence', total(60_000, 'land'), 1],
] as readonly (readonly [string, Budget, number | null])[])
  void t.test(`the probability to be in time ${name}`, async (t) => {
    t.equal(predictionOf(asking('a', budget, budget.onMiss === 'land' ? natural : {})).probability, expected);
  });

void t.test('the probability to be in time rises with the budget', async (t) => {
  for (const onMiss of ['land', 'continue'] as const) {
    let before = -1;
    for (let ms = 100; ms < 6000; ms *= 1.5) {
      const { probability } = predictionOf(asking('a', total(ms, onMiss), natural));
      t.ok((probability ?? -1) >= before - 0.05, `${onMiss}, ${ms} ms: ${probability} after ${before}`);
      before = Math.max(before, probability ?? -1);
    }
    t.ok(before > 0.9, `${before}`);
  }
});

void t.test('a hopeless answer is predicted as it will be, at the shallowest exit', async (t) => {
  const leastMs = 50 * predictMs(sample, { decode: { rows: [1, 0, 0, 0, 0], context: 225 }, prefill: [] });
  for (const ms of [20, 50]) {
    const { serviceClass, exit, predictedMs } = predictionOf(asking('a', total(ms)));
    t.same([serviceClass, exit], ['best_effort', 10]);
    t.ok(predictedMs >= leastMs && predictedMs < 3 * leastMs, `${predictedMs} of ${leastMs}`);
  }
});

void t.test('a lone answer takes what was predicted, less the margin', async (t) => {
  for (const tokens of [1, 20, 200]) {
    const more = { promptLength: 113, lengths: layers.map(() => tokens), maxTokens: tokens };
    const { outcomes } = serve([simulated('a', 0, total(60_000), more)], { policy: { margin: 0 } });
    const { admission, endedAt, firstTokenAt } = outcomeOf(outcomes, 'a');
    if (admission.kind !== 'admit') throw new Error('it was to be admitted');
    const { predictedMs: totalMs, predictedTtftMs: ttftMs } = admission;
    t.ok(Math.abs(totalMs / endedAt - 1) < 0.05, `${totalMs} of ${endedAt} ms`);
    t.ok(Math.abs(ttftMs / (firstTokenAt ?? NaN) - 1) < 0.05, `${ttftMs} of ${firstTokenAt} ms`);
  }
});

void t.test('each request of a burst is predicted with the others', async (t) => {
  const burst = Array.from({ length: 8 }, (_, i) => asking(`r${i}`, total(60_000)));
  const ends = plannerOf()
    .admit(burst, stateOf())
    .map((each) => (each.kind === 'admit' ? each.predictedMs : NaN));
  const more = { maxTokens: 50, lengths: layers.map(() => 50) };
  const { outcomes } = serve(burst.map(({ id }) => simulated(id, 0, total(60_000), more)));
  const last = Math.max(...outcomes.map(({ endedAt }) => endedAt));
  t.ok(Math.abs(Math.max(...ends) / last - 1) < 0.25, `${Math.max(...ends)} of ${last} ms`);
  t.ok(Math.max(...ends) < 2 * Math.min(...ends), 'they run side by side');
});

void t.test('the choices of one answer count their prompt once', async (t) => {
  const scheduler = simulatedScheduler({ slots: 16, kvPositions: 1e5 }, { shape, table, policy: defaultPolicy });
  const prompt = new Array<number>(800).fill(7);
  const alone = asking('alone', null, { promptLength: 800 }).request;
  for (const id of ['a', 'b', 'c', 'd']) scheduler.add({ ...alone, id, prompt });
  const [first = NaN, ...others] = scheduler.schedule(NOW).admitted.map(({ predictedTtftMs }) => predictedTtftMs);
  t.equal(others.length, 3);
  t.ok(Math.max(...others) < 1.2 * first, `${others.join()} behind ${first}`);
});

void t.test(
  'a new request waits for prompts in full, for answers by their turns of the slots, for rows by a step',
  async (t) => {
    const wait = (parts: Partial<Occupancy>): number => plannerOf().predictedWaitMs(stateOf(parts));
    t.equal(wait({}), 0);
    const step = predictMs(sample, { decode: { rows: [1, 0, 0, 0, 1], context: 240 }, prefill: [] });
    const one = wait({ live: [answering('a', null)] });
    t.ok(Math.abs(one / step / (1 + defaultPolicy.margin) - 1) < 0.05, `${one} ms for a step of ${step} ms`);
    const prompt = wait({ live: [prompting('a', null)] });
    const two = wait({ live: [prompting('a', null), prompting('b', total(5000))] });
    t.ok(two > 1.8 * prompt, `${two} ms for two prompts, ${prompt} for one`);
    t.ok(wait({ live: [prompting('a', null, { minExit: 30 })] }) > 2 * prompt, 'it may not get shallower');
    const live = [answering('a', null), answering('b', null)];
    const full = wait({ slots: 2, live });
    t.ok(full > 10 * wait({ slots: 4, live }), 'no slot is free');
    const waiting = ['c', 'd', 'e', 'f'].map((id) => asking(id, null));
    t.ok(wait({ slots: 2, live, waiting }) > 2 * full, 'others come first');
  },
);
