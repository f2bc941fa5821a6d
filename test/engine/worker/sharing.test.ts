/** Prompts that share a prefix and arrive together are computed once, whatever happens to the first one. */
import t from 'tap';
import type { EngineCore } from '../../../src/engine/worker/core.js';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import type { Budget, EndedEvent, SequenceRequest, StepMessage } from '../../../src/protocol/index.js';
import { drain, flatCosts, greedy, makeCore, makeExecutor } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float') });
const { units, table } = executor;
const [shallowest = 0, deepest = 0] = [units.exits[0]?.layer, units.exits.at(-1)?.layer];

t.afterEach(() => {
  executor.forget(0);
});

/** A position costs a millisecond in each stage, for decode and prefill. The clock stands still. */
function coreOf(limits: Partial<EngineOptions> = {}): EngineCore {
  const options = { maxRunning: 8, maxQueue: 8, prefillChunk: 16, ...limits };
  return makeCore(executor, options, () => 0, undefined, { costs: flatCosts(executor, () => 1) });
}

const SHARED = Array.from({ length: 64 }, (_, i) => 3 + ((i * 7) % 20));

const ask = (id: string, rest: readonly number[] = [], overrides: Partial<SequenceRequest> = {}): SequenceRequest =>
  greedy(id, [...SHARED, ...rest], deepest, 6, { arrivedAt: 0, ...overrides });

const atExit = (exit: number): Partial<SequenceRequest> => ({
  depth: { minExit: exit, maxExit: exit, budget: null },
});

function alone(request: SequenceRequest): number[] {
  const core = coreOf({ prefixReuse: false });
  core.submit(request);
  const answer = drain(core).get(request.id);
  executor.forget(0);
  return answer?.tokens ?? [];
}

interface Course {
  readonly tokens: ReadonlyMap<string, number[]>;
  readonly ended: ReadonlyMap<string, EndedEvent | null>;
  readonly prefilled: number;
  readonly caughtUp: number;
  /** Step of the first token, by request. */
  readonly firstStep: ReadonlyMap<string, number>;
}

/** Outcome of requests that arrive within one step. */
function run(
  core: EngineCore,
  requests: readonly SequenceRequest[],
  each: (step: StepMessage) => void = () => undefined,
): Course {
  for (const request of requests) core.submit(request);
  let [steps, prefilled, caughtUp] = [0, 0, 0];
  const firstStep = new Map<string, number>();
  const answers = drain(core, (step) => {
    steps++;
    prefilled += step.work?.prefillTokens ?? 0;
    caughtUp += step.work?.catchUpTokens ?? 0;
    for (const { id } of step.tokens) if (!firstStep.has(id)) firstStep.set(id, steps);
    each(step);
  });
  const tokens = new Map([...answers].map(([id, answer]) => [id, answer.tokens]));
  const ended = new Map([...answers].map(([id, answer]) => [id, answer.ended]));
  return { tokens, ended, prefilled, caughtUp, firstStep };
}

void t.test('four equal prompts are computed once, and each answer equals its answer alone', async (t) => {
  const requests = ['a', 'b', 'c', 'd'].map((id) => ask(id));
  const expected = alone(ask('alone'));
  const { tokens, ended, prefilled, firstStep } = run(coreOf(), requests);
  t.equal(prefilled, 63, 'all but the last position, which is decoded');
  for (const { id } of requests) t.strictSame(tokens.get(id), expected);
  t.strictSame(
    requests.map(({ id }) => ended.get(id)?.cachedTokens),
    [0, 63, 63, 63],
  );
  const [first, ...others] = requests.map(({ id }) => firstStep.get(id) ?? 0);
  t.strictSame(
    others,
    [1, 1, 1].map((later) => (first ?? 0) + later),
    'right after the first one',
  );
});

void t.test('prompts with a common prefix share it', async (t) => {
  const requests = [30, 31, 32].map((token) => ask(`r${token}`, [token, token, 4, 5]));
  const expected = requests.map(alone);
  const { tokens, ended, prefilled } = run(coreOf(), requests);
  t.equal(prefilled, 64 + 3 * 3, 'the rest of each prompt except its last position');
  requests.forEach(({ id }, i) => {
    t.strictSame(tokens.get(id), expected[i]);
    t.equal(ended.get(id)?.cachedTokens, i === 0 ? 0 : 64);
  });
});

void t.test('a prompt waits for the chunk of another one only where it copies enough of it', async (t) => {
  const core = coreOf();
  const [first, second] = [ask('a'), ask('b', [3, 4])];
  for (const request of [first, second, greedy('c', [...SHARED.slice(0, 12), ...SHARED], deepest, 6)])
    core.submit(request);
  core.step();
  const [a, b, c] = ['a', 'b', 'c'].map((id) => core.scheduler.slots.find(id));
  if (a === undefined || b === undefined || c === undefined) throw new Error('a sequence has ended');
  t.ok(core.scheduler.slots.awaits(b, { sequence: a, end: 40 }));
  t.notOk(core.scheduler.slots.awaits(b, { sequence: a, end: 15 }), 'fewer positions than a match has');
  t.notOk(core.scheduler.slots.awaits(c, { sequence: a, end: 40 }), '12 tokens in common');
  drain(core);
});

void t.test('without prefix reuse, each prompt is computed; a scored prompt shares only as a source', async (t) => {
  const pair = [ask('a'), ask('b')];
  t.equal(run(coreOf({ prefixReuse: false }), pair).prefilled, 126);
  t.equal(table.used('cached'), 0, 'no prefix is stored');
  executor.forget(0);
  t.equal(run(coreOf(), [ask('a'), ask('b', [], { promptLogprobs: 0 })]).prefilled, 126);
  executor.forget(0);
  t.equal(run(coreOf(), [ask('a', [], { promptLogprobs: 0 }), ask('b')]).prefilled, 63);
});

void t.test('prompts of different prefix spaces are computed apart, together and one after the other', async (t) => {
  const [first, second] = [{ prefixSpace: 'A' }, { prefixSpace: 'B' }];
  const expected = alone(ask('alone'));
  const core = coreOf();
  const pair = run(core, [ask('a', [], first), ask('b', [], second), ask('c')]);
  t.equal(pair.prefilled, 3 * 63);
  const later = run(core, [ask('d', [], second), ask('e', [], { prefixSpace: 'C' })]);
  t.equal(later.prefilled, 63);
  const cached = [...pair.ended, ...later.ended].map(([id, ended]) => [id, ended?.cachedTokens]);
  t.strictSame(Object.fromEntries(cached), { a: 0, b: 0, c: 0, d: 63, e: 0 });
  for (const tokens of [...pair.tokens.values(), ...later.tokens.values()]) t.strictSame(tokens, expected);
});

void t.test('a cancelled leader leaves its progress to the others', async (t) => {
  const expected = alone(ask('alone'));
  const core = coreOf();
  let steps = 0;
  const { tokens, ended, prefilled } = run(core, [ask('a'), ask('b'), ask('c')], () => {
    if (++steps === 2) core.cancel('a');
  });
  t.equal(ended.get('a')?.reason, 'cancelled');
  t.equal(prefilled, 63, 'the next sequence continues at its position');
  t.strictSame(
    ['b', 'c'].map((id) => tokens.get(id)),
    [expected, expected],
  );
  t.strictSame(
    ['b', 'c'].map((id) => ended.get(id)?.cachedTokens),
    [32, 63],
  );
});

void t.test('a preempted leader becomes a follower', async (t) => {
  const expected = alone(ask('alone'));
  const core = coreOf();
  let steps = 0;
  const { tokens, ended } = run(core, [ask('a'), ask('b'), ask('c')], () => {
    if (++steps !== 2) return;
    // The same changes as in makeRoom.
    const first = core.scheduler.slots.find('a');
    if (first?.slot) table.drop(first.slot);
    if (first) Object.assign(first, { slot: null, leader: null, preemptions: 1 });
    core.scheduler.slots.running.shift();
    if (first) core.scheduler.slots.waiting.unshift(first);
  });
  for (const id of ['a', 'b', 'c']) {
    t.strictSame(tokens.get(id), expected);
    t.equal(ended.get(id)?.reason, 'length');
  }
});

void t.test('a leader at a shallower exit saves its stages for the others', async (t) => {
  const expected = alone(ask('alone'));
  const { tokens, prefilled, caughtUp } = run(coreOf(), [ask('a', [], atExit(shallowest)), ask('b'), ask('c')]);
  t.ok(prefilled <= 63 + 2, `${prefilled}: the first stage runs once`);
  t.ok(caughtUp <= 63 + 2, `${caughtUp}: the deeper stages run once`);
  t.strictSame(
    ['b', 'c'].map((id) => tokens.get(id)),
    [expected, expected],
  );
  executor.forget(0);
  const deep = run(coreOf(), [ask('a'), ask('b', [], atExit(shallowest))]);
  t.ok(deep.prefilled <= 63 + 2, `${deep.prefilled}`);
  t.strictSame(deep.tokens.get('a'), expected);
});

void t.test('a sequence with an earlier deadline waits for no other, and leads', async (t) => {
  const depth = {
    minExit: deepest,
    maxExit: deepest,
    budget: { totalMs: 1000, ttftMs: null, tpotMs: null, onMiss: 'continue' },
  } as const;
  const core = coreOf();
  core.submit(ask('first'));
  core.step();
  const { ended, prefilled, firstStep, tokens } = run(core, [ask('hurried', [], { depth })]);
  t.ok((firstStep.get('hurried') ?? 99) <= (firstStep.get('first') ?? 0), JSON.stringify([...firstStep]));
  t.equal(prefilled, 63 - 16, 'it copies the first chunk of the other');
  t.equal(ended.get('hurried')?.cachedTokens, 16);
  t.equal(ended.get('first')?.cachedTokens, 47);
  t.strictSame(tokens.get('first'), tokens.get('hurried'));
});

void t.test('with little memory, each request still gets its answer', async (t) => {
  const expected = alone(ask('alone'));
  const deep = units.deepest;
  for (const room of [71, 100, 150, 290]) {
    const core = coreOf({ kvMemoryBytes: table.bytesAt(deep, room) });
    const { tokens, ended } = run(core, [ask('a'), ask('b'), ask('c'), ask('d')]);
    for (const id of ['a', 'b', 'c', 'd']) {
      t.equal(ended.get(id)?.reason, 'length', `${id} in ${room}`);
      t.strictSame(tokens.get(id)?.slice(0, 1), expected.slice(0, 1));
    }
    executor.forget(0);
  }
});

void t.test('with one slot, each sequence takes over the prompt of the previous one', async (t) => {
  const expected = alone(ask('alone'));
  const { tokens, prefilled } = run(coreOf({ maxRunning: 1 }), [ask('a'), ask('b'), ask('c')]);
  t.equal(prefilled, 63);
  t.strictSame(
    ['a', 'b', 'c'].map((id) => tokens.get(id)),
    [expected, expected, expected],
  );
});

void t.test('predictions count a shared prompt once, and only while a sequence computes it', async (t) => {
  const core = coreOf();
  const planned = new Map<string, number>();
  for (const id of ['a', 'b', 'c', 'd']) core.submit(ask(id));
  for (const { id, predictedTtftMs } of core.step().planned) planned.set(id, predictedTtftMs);
  const [first = 0, , , last = 0] = ['a', 'b', 'c', 'd'].map((id) => planned.get(id));
  t.ok(last < 1.5 * first, `${last} ms after ${first}`);
  const [a, b] = ['a', 'b'].map((id) => core.scheduler.slots.find(id));
  t.equal(b?.frontier(0), 0);
  t.equal(b?.expectedFrontiers[0], 63);
  core.cancel('a');
  core.step();
  t.equal(a?.isOver, true);
  t.equal(core.scheduler.slots.find('c')?.leader?.sequence.id, 'b', 'the next sequence leads');
  drain(core);
});

void t.test('admission does not count on the prompt of a request that ends in the same step', async (t) => {
  const budget = (totalMs: number): Budget => ({ totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' });
  const depth = (totalMs: number): SequenceRequest['depth'] => ({
    minExit: deepest,
    maxExit: deepest,
    budget: budget(totalMs),
  });
  const hopeless = ask('hopeless', [], { depth: depth(20) });
  const [tight, loose] = [ask('tight', [], { depth: depth(150) }), ask('loose', [], { depth: depth(2000) })];
  const refusedOf = (requests: readonly SequenceRequest[]): string[] => {
    const core = coreOf();
    for (const request of requests) core.submit(request);
    const rejected = core.step().rejected.map(({ id }) => id);
    executor.forget(0);
    return rejected;
  };
  t.strictSame(refusedOf([tight]), ['tight'], 'its prefill takes longer than its budget');
  t.strictSame(refusedOf([hopeless, tight]), ['hopeless', 'tight']);
  t.strictSame(refusedOf([hopeless, tight, loose]), ['hopeless', 'tight']);

  const core = coreOf();
  core.submit(ask('gone', [], { depth: { ...depth(20), budget: { ...budget(20), onMiss: 'continue' } } }));
  core.submit(tight);
  core.cancel('gone');
  t.match(core.step(), { ended: [{ id: 'gone' }], rejected: [{ id: 'tight' }] });
});
