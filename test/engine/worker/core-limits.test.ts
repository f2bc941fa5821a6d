/** Limits and accounting of a core, with fake costs: rows and time of a step, and the release of constraints. */
import t from 'tap';
import { constraintOf } from '../answers.js';
import type { Constraint } from '../../../src/engine/constraint.js';
import type { EngineCore } from '../../../src/engine/worker/core.js';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import type { SequenceRequest, StepMessage, TokenLogprobs } from '../../../src/protocol/index.js';
import { flatCosts, greedy, logitsAt, makeCore, makeExecutor, openSlot, within } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float') });
const { units } = executor;
const deepest = units.exits.at(-1)?.layer ?? 0;

/** A row costs 100 ms in the first stage; all other work is nearly free. */
const costs = flatCosts(
  executor,
  (unit) => (unit === 0 ? 100 : 0.001),
  () => 0.001,
);

function core(clock: () => number, limits: Partial<EngineOptions> = {}): EngineCore {
  const options = { maxRunning: 8, maxQueue: 8, prefixReuse: false, prefillChunk: 8, ...limits };
  return makeCore(executor, options, clock, undefined, { costs });
}

/** Runs steps until the core is idle. */
function stepsOf(engine: EngineCore): StepMessage[] {
  const steps: StepMessage[] = [];
  while (engine.busy) steps.push(engine.step());
  return steps;
}

const prompt = (length: number) => Array.from({ length }, (_, i) => 3 + (i % 20));
const ask = (id: string, ids: readonly number[], maxTokens: number, more: Partial<SequenceRequest> = {}) =>
  greedy(id, ids, deepest, maxTokens, { arrivedAt: 0, ...more });

void t.test('unfinished prompts are not rows of the coming step', async (t) => {
  const engine = core(() => 0);
  engine.submit(ask('cut', [3], 2, within(deepest, 400, 'truncate')));
  for (const id of ['a', 'b', 'c', 'd', 'e']) engine.submit(ask(id, prompt(40), 2));
  const { tokens, ended } = engine.step();
  t.strictSame(ended, [], 'one row takes a quarter of the budget; six rows would exceed it');
  t.match(tokens, [{ id: 'cut' }]);
});

void t.test('idle time between steps does not count as a slow step', async (t) => {
  const slowdowns = [true, false].map((rests) => {
    let now = 0;
    const engine = core(() => (now += 25));
    engine.submit(ask('a', [3], 40));
    let slowdown = 1;
    for (let step = 0; step < 20; step++) {
      slowdown = engine.step().work?.slowdown ?? slowdown;
      if (rests) engine.rest();
      now += 5000;
    }
    return slowdown;
  });
  const [rested = NaN, waited = NaN] = slowdowns;
  t.ok(rested <= 1.5, `${rested}`);
  t.ok(waited > 3, `${waited}`);
});

void t.test('a request with a grammar closes its constraint, however it ends', async (t) => {
  const closed: string[] = [];
  const constraint = (id: string, more: Partial<Constraint> = {}): Constraint => ({
    ...{ ...constraintOf(null), enforced: false, released: true },
    ...{ close: () => void closed.push(id), ...more },
  });
  const broken = { released: false, failed: { message: 'broken', isLost: true } };
  const requests: [SequenceRequest, Partial<Constraint>?][] = [
    [ask('too long', [3], executor.model.limits.capacity)],
    [ask('infeasible', [3], 2, within(deepest, 50, 'reject'))],
    [ask('late', [3], 2, within(deepest, 50, 'truncate'))],
    [ask('cancelled', [3], 2)],
    [ask('whole', [3], 2)],
    [ask('complete', [3], 2), { released: false, complete: true }],
    [ask('lost', [3], 2), broken],
  ];
  const engine = core(() => 0);
  for (const [request, more] of requests) engine.submit(request, constraint(request.id, more));
  engine.cancel('cancelled');
  const steps = stepsOf(engine);
  const rejected = steps.flatMap((step) => step.rejected.map(({ id, reason }) => [id, reason]));
  t.same(Object.fromEntries(rejected), { 'too long': 'too_long', infeasible: 'budget_infeasible' });
  const ended = steps.flatMap((step) => step.ended.map(({ id, reason }) => [id, reason]));
  t.same(Object.fromEntries(ended), {
    late: 'deadline',
    cancelled: 'cancelled',
    whole: 'length',
    complete: 'stop',
    lost: 'error',
  });
  t.same(closed.sort(), [...rejected, ...ended].map(([id]) => id).sort(), 'each once');
});

void t.test('a sequence that waits for a mask does not delay others', async (t) => {
  const engine = core(() => 0);
  const pending = constraintOf(null);
  engine.submit(ask('masked', [3], 2), pending);
  engine.step();
  t.ok(engine.isStalled, 'no sequence can run');
  engine.submit(ask('free', [3], 1));
  t.notOk(engine.isStalled);
  t.match(engine.step(), { tokens: [{ id: 'free' }], ended: [{ id: 'free' }] });
  t.ok(engine.isStalled);
  engine.cancel('masked');
  t.notOk(engine.isStalled);
  t.match(engine.step().ended, [{ id: 'masked', reason: 'cancelled' }]);
});

void t.test('an unknown token id rejects its own request only', async (t) => {
  const engine = core(() => 0);
  const { vocab } = executor.model.manifest.architecture;
  for (const [id, ids, more] of [
    ['good', [3, vocab - 1]],
    ['prompt', [3, vocab]],
    ['negative', [-1]],
    ['prediction', [3], { prediction: [vocab] }],
  ] as const)
    engine.submit(ask(id, ids, 2, more));
  const steps = stepsOf(engine);
  const rejected = steps.flatMap((step) => step.rejected.map(({ id, reason }) => `${id} ${reason}`));
  t.strictSame(rejected, ['prompt unknown_token', 'negative unknown_token', 'prediction unknown_token']);
  t.match(
    steps.flatMap(({ ended }) => ended),
    [{ id: 'good', reason: 'length' }],
  );
});

void t.test('a dry run gets the plan of a real request, and takes no slot, no step and no place', async (t) => {
  const request = (id: string) => ask(id, [3, 4], 6, within(deepest, 60_000, 'continue'));
  const engine = core(() => 0, { maxRunning: 1, maxQueue: 1 });
  engine.submit({ ...request('idle'), isDryRun: true });
  const { planned, ended, tokens, load, work } = engine.step();
  t.match(planned, [{ id: 'idle', isDryRun: true, serviceClass: 'guaranteed' }]);
  t.match(ended, [{ id: 'idle', reason: 'length', isDryRun: true, startedAt: null, promptTokens: 2 }]);
  t.same([tokens, load.running, load.waiting, work, engine.busy], [[], 0, 0, null, false]);
  engine.submit({ ...request('before'), isDryRun: true });
  for (const id of ['a', 'b']) engine.submit(request(id));
  const plans = stepsOf(engine).flatMap((step) => step.planned.map(({ id }) => id));
  t.strictSame(plans.sort(), ['a', 'b', 'before'], 'both requests have their places');
});

void t.test('endToken is set only for an end token', async (t) => {
  const engine = core(() => 0);
  engine.submit(ask('cut', [3, 4], 3, { logprobs: 0 }));
  const steps = stepsOf(engine);
  const [last] = steps.flatMap(({ tokens }) => tokens).slice(-1);
  const [ended] = steps.flatMap((step) => step.ended);
  t.equal(ended?.reason, 'length');
  t.equal(ended?.endToken, undefined);
  engine.submit(ask('ends', [3, 4], 3, { logprobs: 0, minTokens: 2, stopTokens: [last?.token ?? NaN] }));
  t.match(
    stepsOf(engine).flatMap((step) => step.ended),
    [{ reason: 'stop', endToken: { token: last?.token } }],
  );
});

void t.test('the scores of a prompt equal those of decoding, in chunks of any size', async (t) => {
  const scored = prompt(60);
  const scoresOf = (chunk: number): [logprobs: (TokenLogprobs | null)[], events: number] => {
    const engine = core(() => 0, { prefillChunk: chunk });
    engine.submit(ask('scored', scored, 0, { promptLogprobs: 2 }));
    const steps = stepsOf(engine);
    t.match(steps.at(-1)?.ended, [{ reason: 'length', firstTokenAt: null }]);
    const events = steps.flatMap(({ prompts }) => prompts);
    return [events.flatMap(({ logprobs }) => logprobs), events.length];
  };
  // The whole prompt runs last, because its states in memory would be correct for the chunks as well.
  const [pieces, events] = scoresOf(8);
  const [whole] = scoresOf(64);
  t.ok(events > 5, 'in chunks');
  t.equal(whole.length, scored.length);
  t.equal(whole[0], null, 'the first token has no prediction');
  t.strictSame(pieces, whole);

  const slot = openSlot(executor, scored.slice(0, 1));
  scored.slice(1).forEach((token, i) => {
    const logits = logitsAt(executor, slot, units.exits.length - 1);
    const lse = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    const { logprob = NaN, top = [] } = whole[i + 1] ?? {};
    t.ok(Math.abs(logprob - ((logits[token] ?? NaN) - lse)) < 0.01, `${logprob} of token ${i + 1}`);
    t.equal(top.length, 2);
    for (const [id, value] of top) t.ok(Math.abs(value - ((logits[id] ?? NaN) - lse)) < 0.01);
    slot.tokens.push(token);
  });
  executor.forget(0);
});
