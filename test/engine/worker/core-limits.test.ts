/**
 * Limits and accounting of a core, with fake costs: rows and time of a step, places in the queue, positions, bytes of a
 * prefix, and the release of constraints.
 */
import t from 'tap';
import { constraintOf } from '../constraint.js';
import type { Constraint } from '../../../src/engine/constraint.js';
import type { EngineCore } from '../../../src/engine/worker/core.js';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import type { EndedEvent, PromptEvent, StepMessage, TokenLogprobs } from '../../../src/protocol/index.js';
import { scorePrompt } from '../../../src/engine/sampling/prompt-scores.js';
import { SlotManager } from '../../../src/engine/scheduler/slot-manager.js';
import { Sequence } from '../../../src/engine/scheduler/sequence.js';
import { advance, flatCosts, greedy, logitsAt, makeCore, makeExecutor, openSlot } from '../helper.js';
import { answerOf } from '../answers.js';
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

void t.test('unfinished prompts are not rows of the coming step', async (t) => {
  const engine = core(() => 0);
  const budget = { totalMs: 400, ttftMs: null, tpotMs: null, onMiss: 'truncate' } as const;
  const depth = { minExit: deepest, maxExit: deepest, budget };
  engine.submit(greedy('cut', [3], deepest, 2, { arrivedAt: 0, depth }));
  for (const id of ['a', 'b', 'c', 'd', 'e']) engine.submit(greedy(id, prompt(40), deepest, 2, { arrivedAt: 0 }));
  const { tokens, ended } = engine.step();
  t.strictSame(ended, [], 'one row takes a quarter of the budget; six rows would exceed it');
  t.match(tokens, [{ id: 'cut' }]);
});

void t.test('idle time between steps does not count as a slow step', async (t) => {
  const slowdowns = [true, false].map((rests) => {
    let now = 0;
    const engine = core(() => (now += 25));
    engine.submit(greedy('a', [3], deepest, 40, { arrivedAt: 0 }));
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

void t.test('a request that waits outside the queue holds a place, and keeps it when submitted', async (t) => {
  const engine = core(() => 0, { maxRunning: 1, maxQueue: 1 });
  const submit = (id: string, elsewhere: number | null): void => {
    engine.submit(greedy(id, [3], deepest, 2, { arrivedAt: 0 }), null, elsewhere);
  };
  submit('first', 1);
  submit('beyond', 1);
  submit('kept', null);
  submit('later', 0);
  t.strictSame(
    engine.step().rejected.map(({ id, reason }) => [id, reason]),
    [
      ['beyond', 'queue_full'],
      ['later', 'queue_full'],
    ],
  );
});

void t.test('a shallow request copies no deep prefix that does not fit, and runs beside it', async (t) => {
  const shallowest = units.exits[0]?.layer ?? 0;
  const shared = prompt(60);
  const { table } = executor;
  const deep = table.bytesAt(units.deepest, 90);
  for (const [room, cached] of [
    [table.bytesAt(0, 75), 0],
    [deep, 60],
  ] as const) {
    const engine = core(() => 0, { prefixReuse: true, kvMemoryBytes: deep + room });
    engine.submit(greedy('deep', [...shared, 4, 5, 6, 7], deepest, 20, { arrivedAt: 0 }));
    while (engine.scheduler.slots.running[0]?.generated !== 2) engine.step();
    engine.submit(greedy('shallow', [...shared, 8, 9, 10, 11], shallowest, 4, { arrivedAt: 1 }));
    const ended = [];
    while (engine.busy) ended.push(...engine.step().ended);
    t.match(ended, [
      { id: 'shallow', reason: 'length', preemptions: 0, cachedTokens: cached },
      { id: 'deep', reason: 'length', preemptions: 0 },
    ]);
    for (const slot of table.slots) table.drop(slot);
  }
});

void t.test('requests between two steps are admitted by the next one, and may be cancelled first', async (t) => {
  const engine = core(() => 0);
  const ids = ['a', 'b', 'c'];
  for (const id of ids) engine.submit(greedy(id, [3, 4], deepest, 2, { arrivedAt: 0 }));
  t.ok(engine.busy);
  t.notOk(engine.isStalled);
  engine.cancel('b');
  const { planned, ended, load } = engine.step();
  t.strictSame(
    planned.map(({ id }) => id),
    ['a', 'c'],
  );
  t.match(ended, [{ id: 'b', reason: 'cancelled' }]);
  t.equal(load.running + load.waiting, 2);
});

void t.test('a request with a grammar closes its constraint, however it ends', async (t) => {
  const closed: string[] = [];
  const constraint = (id: string, more: Partial<Constraint> = {}): Constraint => ({
    mask: null,
    enforced: false,
    released: true,
    complete: false,
    failed: null,
    accept: () => undefined,
    close: () => void closed.push(id),
    ...more,
  });
  const { capacity } = executor.model.limits;
  const budget = (onMiss: 'truncate' | 'reject') => ({ totalMs: 50, ttftMs: null, tpotMs: null, onMiss });
  const depth = (onMiss: 'truncate' | 'reject') => ({ minExit: deepest, maxExit: deepest, budget: budget(onMiss) });
  const engine = core(() => 0);
  const ask = { arrivedAt: 0 };
  engine.submit(greedy('too long', [3], deepest, capacity, ask), constraint('too long'), null);
  engine.submit(greedy('infeasible', [3], deepest, 2, { ...ask, depth: depth('reject') }), constraint('infeasible'));
  engine.submit(greedy('late', [3], deepest, 2, { ...ask, depth: depth('truncate') }), constraint('late'));
  engine.submit(greedy('cancelled', [3], deepest, 2, ask), constraint('cancelled'));
  engine.submit(greedy('whole', [3], deepest, 2, ask), constraint('whole'));
  engine.submit(greedy('complete', [3], deepest, 2, ask), constraint('complete', { released: false, complete: true }));
  const failed = { message: 'broken', isLost: true };
  engine.submit(greedy('lost', [3], deepest, 2, ask), constraint('lost', { released: false, failed }));
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
  engine.submit(greedy('masked', [3], deepest, 2, { arrivedAt: 0 }), pending);
  engine.step();
  t.ok(engine.isStalled, 'no sequence can run');
  engine.submit(greedy('free', [3], deepest, 1, { arrivedAt: 0 }));
  t.notOk(engine.isStalled);
  t.match(engine.step(), { tokens: [{ id: 'free' }], ended: [{ id: 'free' }] });
  t.ok(engine.isStalled);
  engine.cancel('masked');
  t.notOk(engine.isStalled);
  t.match(engine.step().ended, [{ id: 'masked', reason: 'cancelled' }]);
});

void t.test('prompt and answer may fill a slot to its last position', async (t) => {
  const { capacity } = executor.model.limits;
  const engine = core(() => 0);
  engine.submit(greedy('full', [3, 4], deepest, capacity - 2, { arrivedAt: 0 }));
  engine.submit(greedy('beyond', [3, 4], deepest, capacity - 1, { arrivedAt: 0 }));
  engine.cancel('full');
  const { ended, rejected } = engine.step();
  t.match(ended, [{ id: 'full', reason: 'cancelled' }], 'no rejection');
  t.match(rejected, [{ id: 'beyond', reason: 'too_long' }]);
});

void t.test('the least recently used prefix is evicted first', async (t) => {
  const { table } = executor;
  const positions = 150;
  const engine = core(() => 0, { prefixReuse: true, kvMemoryBytes: table.bytesAt(units.deepest, positions) });
  const cachedOf = (id: string, first: number): number | undefined => {
    // Each sequence takes up to 42 positions and the next one: three prefixes fit, or two beside a live sequence.
    const tokens = [first, ...prompt(39)];
    engine.submit(greedy(id, tokens, deepest, 2, { arrivedAt: 0 }));
    const [ended] = stepsOf(engine).flatMap((step) => step.ended);
    return ended?.cachedTokens;
  };
  t.same([cachedOf('a', 31), cachedOf('b', 32), cachedOf('c', 33)], [0, 0, 0]);
  t.equal(cachedOf('a again', 31), 39);
  t.equal(cachedOf('d', 34), 0, 'evicts the second');
  t.same([cachedOf('a', 31), cachedOf('c', 33), cachedOf('b', 32)], [39, 39, 0]);
  for (const slot of table.slots) table.drop(slot);
});

void t.test('a preempted sequence keeps its first start time and takes no place in the queue', async (t) => {
  const { table } = executor;
  const room = table.bytesAt(units.deepest, 100);
  let now = 0;
  const engine = core(() => now, { kvMemoryBytes: room });
  engine.submit(greedy('old', prompt(40), deepest, 30, { arrivedAt: 0 }));
  engine.submit(greedy('young', prompt(40), deepest, 30, { arrivedAt: 1 }));
  const ended: EndedEvent[] = [];
  let resumed = 0;
  while (engine.busy) {
    const before = engine.scheduler.slots.waiting.length;
    ended.push(...engine.step().ended);
    if (before > engine.scheduler.slots.waiting.length) resumed = now;
    now += 10;
  }
  const young = ended.find(({ id }) => id === 'young');
  t.match(young, { reason: 'length', preemptions: 1, startedAt: 0 });
  t.ok(resumed > 0, 'the sequence waited again');

  const slotManager = new SlotManager(table, { maxRunning: 0, maxQueue: 1, kvBytes: room, prefixReuse: false });
  const preempted = new Sequence(greedy('preempted', [3], deepest, 2), units.exits);
  preempted.preemptions = 1;
  slotManager.enqueue(preempted);
  t.notOk(slotManager.isFull());
  slotManager.enqueue(new Sequence(greedy('waits', [3], deepest, 2), units.exits));
  t.ok(slotManager.isFull());
});

void t.test(
  'rejections and ends of requests that were never submitted are sent without a running sequence',
  async (t) => {
    const engine = core(() => 0);
    t.notOk(engine.busy);
    engine.reject({ id: 'rejected', reason: 'queue_full' });
    t.ok(engine.busy);
    t.match(engine.step().rejected, [{ id: 'rejected', reason: 'queue_full' }]);
    t.notOk(engine.busy);
    engine.abandon(greedy('left', [3], deepest, 2), 'cancelled');
    t.ok(engine.busy);
    t.match(engine.step().ended, [{ id: 'left', reason: 'cancelled', promptTokens: 1 }]);
    t.notOk(engine.busy);
  },
);

void t.test('endToken is set only for an end token', async (t) => {
  const engine = core(() => 0);
  engine.submit(greedy('cut', [3, 4], deepest, 3, { arrivedAt: 0, logprobs: 0 }));
  const steps = stepsOf(engine);
  const [last] = steps.flatMap(({ tokens }) => tokens).slice(-1);
  const [ended] = steps.flatMap((step) => step.ended);
  t.equal(ended?.reason, 'length');
  t.equal(ended?.endToken, undefined);
  engine.submit(
    greedy('ends', [3, 4], deepest, 3, { arrivedAt: 0, logprobs: 0, minTokens: 2, stopTokens: [last?.token ?? NaN] }),
  );
  t.match(
    stepsOf(engine).flatMap((step) => step.ended),
    [{ reason: 'stop', endToken: { token: last?.token } }],
  );
});

void t.test('an ended event has the times of its start, first token and end', async (t) => {
  let now = 0;
  const engine = core(() => now);
  engine.submit(greedy('a', [3], deepest, 3, { arrivedAt: 0 }));
  const ended: EndedEvent[] = [];
  for (now = 10; engine.busy; now += 10) ended.push(...engine.step().ended);
  t.match(ended, [{ startedAt: 10, firstTokenAt: 10, endedAt: 30 }]);
});

void t.test('the scores of a prompt equal those of decoding, in chunks of any size', async (t) => {
  const scored = prompt(60);
  const scoresOf = (chunk: number): [logprobs: (TokenLogprobs | null)[], events: number] => {
    const engine = core(() => 0, { prefillChunk: chunk });
    engine.submit(greedy('scored', scored, deepest, 0, { arrivedAt: 0, promptLogprobs: 2 }));
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
    const logits = logitsAt(executor, slot, units.deepest);
    const lse = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    const { logprob = NaN, top = [] } = whole[i + 1] ?? {};
    t.ok(Math.abs(logprob - ((logits[token] ?? NaN) - lse)) < 0.01, `${logprob} of token ${i + 1}`);
    t.equal(top.length, 2);
    for (const [id, value] of top) t.ok(Math.abs(value - ((logits[id] ?? NaN) - lse)) < 0.01);
    slot.tokens.push(token);
  });
  executor.forget(0);
});

void t.test('each prompt token is scored once, also when an exit catches up over prompt and answer', async (t) => {
  const { maxRows } = executor.model.limits;
  const asked = greedy('scored', prompt(20), deepest, 9, { promptLogprobs: 0 });
  const scored = answerOf(asked, units.exits);
  scored.tokens.push(3, 4, 5);
  const slot = openSlot(executor, scored.tokens);
  const events: PromptEvent[] = [];
  const all: PromptEvent['logprobs'][number][] = [];
  const counts = [
    [0, 12],
    [units.deepest, 16],
    [0, 22],
    [units.deepest, 22],
  ].map(([exit = 0, end = 0]) => {
    const states = advance(executor, slot, exit, end);
    if (states !== null) scorePrompt(executor.head, maxRows, scored, states, events);
    all.push(...events.flatMap(({ logprobs }) => logprobs));
    return events.splice(0).map(({ logprobs }) => logprobs.length);
  });
  // All of the 20 tokens except the first.
  t.strictSame(counts, [[12], [4], [3], []]);

  const alone = answerOf(asked, units.exits);
  const states = advance(executor, openSlot(executor, alone.tokens), units.deepest, 16);
  if (states !== null) scorePrompt(executor.head, maxRows, alone, states, events);
  const expected = events.flatMap(({ logprobs }) => logprobs).slice(12);
  for (const [i, each] of all.slice(12, 16).entries()) {
    t.ok(Math.abs((each?.logprob ?? NaN) - (expected[i]?.logprob ?? NaN)) < 0.01, `token ${i + 13} by its own state`);
  }
  executor.forget(0);
});
