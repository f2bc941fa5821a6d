import t from 'tap';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { GREEDY } from '../../../src/protocol/sampling-rules.js';
import { Sequence } from '../../../src/engine/scheduler/sequence.js';
import { drain, greedy, makeCore, makeExecutor, PROMPTS } from '../helper.js';

const executor = await makeExecutor(t);
const exits = executor.model.manifest.exits.map(({ layer }) => layer);
const [first = [], second = [], long = []] = PROMPTS;
const deepest = exits.at(-1) ?? 0;

t.afterEach(() => {
  executor.forget(0);
});

/** Small and seeded, so that a failure is reproducible. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function alone(request: SequenceRequest): number[] {
  const core = makeCore(executor, { prefixReuse: false });
  core.submit(request);
  const answer = drain(core).get(request.id);
  executor.forget(0);
  return answer?.tokens ?? [];
}

void t.test('100 requests at random depths, lengths and cancels: each ends once, with its own tokens', async (t) => {
  const random = numbers(1);
  const core = makeCore(executor, { maxRunning: 12 });
  const used = executor.table.used('live');
  const kinds = Array.from({ length: 12 }, (_, kind) => {
    const prompt = PROMPTS[kind % 2] ?? [];
    return greedy(`kind-${kind}`, [...prompt, 300 + kind], exits[kind % exits.length] ?? deepest, 3 + (kind % 5) * 2);
  });
  const expected = kinds.map((request) => alone(request));
  const requests = Array.from({ length: 100 }, (_, index) => ({ kind: random(kinds.length), id: `r${index}` }));
  const cancelAt = new Map(requests.filter(() => random(4) === 0).map(({ id }) => [id, random(12)]));
  for (const { kind, id } of requests) {
    const request = kinds[kind];
    if (request) core.submit({ ...request, id });
  }
  let steps = 0;
  const ends = new Map<string, number>();
  const seen = new Map<string, number>();
  const answers = drain(core, (step) => {
    steps++;
    for (const { id } of step.ended) ends.set(id, (ends.get(id) ?? 0) + 1);
    for (const { id } of step.tokens) seen.set(id, (seen.get(id) ?? 0) + 1);
    for (const [id, after] of cancelAt) if ((seen.get(id) ?? 0) >= after && steps > after) core.cancel(id);
  });
  t.equal(ends.size, 100);
  t.ok(
    [...ends.values()].every((count) => count === 1),
    'no request ends twice',
  );
  let cancelled = 0;
  for (const { kind, id } of requests) {
    const answer = answers.get(id);
    const whole = expected[kind] ?? [];
    if (answer?.ended?.reason === 'cancelled') {
      cancelled++;
      t.strictSame(answer.tokens, whole.slice(0, answer.tokens.length), `${id} holds the beginning of its own answer`);
    } else {
      t.equal(answer?.ended?.reason, 'length');
      t.strictSame(answer?.tokens, whole, `${id} equals its answer alone`);
    }
  }
  t.ok(cancelled > 10, `${cancelled} were cancelled`);
  t.equal(executor.table.used('live'), used, 'no live slot is left');
  t.equal(core.scheduler.slots.running.length + core.scheduler.slots.waiting.length, 0);
});

void t.test('a stop string ends a sequence with stop; steps report their work by exit', async (t) => {
  const core = makeCore(executor);
  core.submit(greedy('a', first, deepest, 20));
  core.submit(greedy('b', second, exits[0] ?? deepest, 20));
  const seconds = exits.map(() => 0);
  const answers = drain(core, ({ tokens, work }) => {
    if (tokens.some(({ id }) => id === 'a')) core.cancel('a', 'stop');
    if (work === null) return;
    work.exitMs.forEach((ms, exit) => (seconds[exit] = (seconds[exit] ?? 0) + ms));
    const total = work.exitMs.reduce((sum, ms) => sum + ms, 0);
    t.ok(Math.abs(total - work.ms) < 1e-6, 'the whole step is accounted for');
    t.ok(work.slowdown > 0);
  });
  t.equal(answers.get('a')?.ended?.reason, 'stop');
  t.equal(answers.get('b')?.ended?.reason, 'length');
  t.ok((seconds[0] ?? 0) > 0 && (seconds[executor.units.deepest] ?? 0) > 0);
  t.ok(
    seconds.every((ms, exit) => ms === 0 || exit === 0 || exit === executor.units.deepest),
    'no other exit was used',
  );
});

void t.test('a full KV budget preempts the newest sequence, which resumes at its last token', async (t) => {
  const old = greedy('old', long, deepest, 60);
  const young = greedy('young', second, deepest, 60, { arrivedAt: old.arrivedAt + 1 });
  const expected = [alone(old), alone(young)];
  // Both fit at their start; the growth of the older sequence preempts the younger one.
  const positions = long.length + 70;
  const core = makeCore(executor, { kvMemoryBytes: executor.model.bytesPerPosition * positions, prefixReuse: false });
  core.submit(old);
  core.submit(young);
  let before = -1;
  const answers = drain(core, ({ load }) => {
    t.ok(load.kvUsed <= 1, 'within the budget');
    const waiting = core.scheduler.slots.waiting.find(({ id, preemptions }) => id === 'young' && preemptions > 0);
    if (waiting) before = waiting.generated;
  });
  t.strictSame(answers.get('old')?.tokens, expected[0]);
  t.ok(before > 0, `${before} tokens existed at the preemption`);
  // Resuming prefills decoded positions. With a KV cache of floats that rounds differently, and near-ties may change.
  const same = executor.model.manifest.kvType === 'i8' ? 60 : before;
  t.strictSame(answers.get('young')?.tokens.slice(0, same), expected[1]?.slice(0, same));
  t.equal(answers.get('young')?.tokens.length, 60);
  t.equal(answers.get('young')?.ended?.reason, 'length');
  t.equal(answers.get('old')?.ended?.preemptions, 0);
  t.ok((answers.get('young')?.ended?.preemptions ?? 0) > 0, 'the newest was preempted');
});

void t.test('a shared prefix is not computed again; only exact tokens are shared', async (t) => {
  const core = makeCore(executor);
  const system = long.slice(0, 120);
  core.submit(greedy('a', [...system, 400, 401, 402], deepest, 4));
  const one = drain(core);
  core.submit(greedy('b', [...system, 410, 411, 412], deepest, 4));
  const changed = [...system];
  changed[60] = (changed[60] ?? 0) + 1;
  core.submit(greedy('c', [...changed, 410, 411, 412], deepest, 4));
  const two = drain(core);
  t.equal(one.get('a')?.ended?.cachedTokens, 0);
  t.equal(two.get('b')?.ended?.cachedTokens, 120);
  t.equal(two.get('c')?.ended?.cachedTokens, 60, 'up to the first different token');
  t.strictSame(two.get('b')?.tokens, alone(greedy('b', [...system, 410, 411, 412], deepest, 4)));
  t.strictSame(two.get('c')?.tokens, alone(greedy('c', [...changed, 410, 411, 412], deepest, 4)));
});

void t.test('admission counts on a stored prefix only while it is stored', async (t) => {
  // Predictions follow the measured steps, which a busy machine stretches.
  let now = 0;
  const core = makeCore(executor, { prefillChunk: 64 }, () => (now += 0.01));
  const turn = Array.from({ length: 900 }, (_, i) => 300 + (i % 350));
  const next = [...turn, 400, 401, 402, 403];
  const predictedMs = (id: string, prompt: readonly number[]): number => {
    core.submit(greedy(id, [...prompt], deepest, 2, { arrivedAt: now }));
    let ms = 0;
    drain(core, ({ planned }) => (ms = planned.find((each) => each.id === id)?.predictedTtftMs ?? ms));
    return ms;
  };
  const fresh = predictedMs('first', turn);
  const again = predictedMs('second', next);
  t.ok(again < fresh / 3, `${again} ms, ${fresh} ms without`);
  const waiting = new Sequence(greedy('third', next, deepest, 2), executor.units.exits);
  core.scheduler.slots.lookUp(waiting);
  t.equal(waiting.frontier(0), 903, 'all positions but the last');
  if (waiting.prefix) waiting.prefix.slot.tokens = [];
  t.equal(waiting.frontier(0), 0, 'another sequence took its slot');
});

void t.test('a long prompt delays a stream by at most one chunk per step', async (t) => {
  const core = makeCore(executor, { prefillChunk: 64 });
  const [shallowest = deepest] = exits;
  core.submit(greedy('stream', first, shallowest, 60));
  core.step();
  core.submit(
    greedy(
      'long',
      Array.from({ length: 900 }, (_, i) => 300 + (i % 350)),
      shallowest,
      2,
    ),
  );
  let worst = 0;
  let withPrefill = 0;
  drain(core, ({ work, tokens }) => {
    if (!work || work.prefillTokens === 0) return;
    withPrefill++;
    worst = Math.max(worst, work.prefillTokens);
    if (core.scheduler.slots.find('stream'))
      t.ok(
        tokens.some(({ id }) => id === 'stream'),
        'the stream continues',
      );
  });
  t.ok(worst <= 64, `chunks of at most ${worst}`);
  t.ok(withPrefill >= 14);
});

void t.test('prompts that arrive together share steps, and each gets its own tokens', async (t) => {
  const requests = [40, 41, 42, 43].map((token) => greedy(`r${token}`, [token, ...first], deepest, 4));
  const expected = requests.map((request) => alone(request));
  const core = makeCore(executor, { prefixReuse: false });
  for (const request of requests) core.submit(request);
  let most = 0;
  const answers = drain(core, ({ work }) => (most = Math.max(most, work?.prefillTokens ?? 0)));
  t.ok(most >= 2 * first.length, `${most} positions in a step`);
  t.strictSame(
    requests.map(({ id }) => answers.get(id)?.tokens),
    expected,
  );
});

void t.test('the same seed gives the same text, another seed another text', async (t) => {
  const core = makeCore(executor);
  const sampled = (id: string, seed: number): SequenceRequest =>
    greedy(id, second, deepest, 12, { sampling: { ...GREEDY, temperature: 1, seed } });
  for (const [id, seed] of [
    ['a', 7],
    ['b', 7],
    ['c', 8],
  ] as const)
    core.submit(sampled(id, seed));
  const answers = drain(core);
  t.strictSame(answers.get('a')?.tokens, answers.get('b')?.tokens);
  t.notSame(answers.get('a')?.tokens, answers.get('c')?.tokens);
});

void t.test('an unknown token id rejects its own request only', async (t) => {
  const core = makeCore(executor);
  const { vocab } = executor.model.manifest.architecture;
  core.submit(greedy('good', first, deepest, 2));
  core.submit(greedy('prompt', [...first, vocab], deepest, 2));
  core.submit(greedy('negative', [-1], deepest, 2));
  core.submit(greedy('prediction', first, deepest, 2, { prediction: [vocab] }));
  core.submit(greedy('last', [vocab - 1], deepest, 2));
  const rejected: (readonly [string, string])[] = [];
  const answers = drain(core, (step) => rejected.push(...step.rejected.map(({ id, reason }) => [id, reason] as const)));
  t.strictSame(
    rejected,
    ['prompt', 'negative', 'prediction'].map((id) => [id, 'unknown_token']),
  );
  t.strictSame([...answers.keys()].sort(), ['good', 'last']);
});

void t.test('a request that is too long, or meets a full queue, is rejected', async (t) => {
  const core = makeCore(executor, { maxRunning: 1, maxQueue: 1 });
  core.submit(greedy('too-long', first, deepest, executor.model.limits.capacity));
  for (const id of ['a', 'b', 'c']) core.submit(greedy(id, first, deepest, 2));
  const step = core.step();
  t.strictSame(
    step.rejected.map(({ id, reason }) => [id, reason]),
    [
      ['too-long', 'too_long'],
      ['c', 'queue_full'],
    ],
  );
  drain(core);
});

void t.test('log-probabilities: the top token when greedy, and a prompt is scored like a decode', async (t) => {
  const core = makeCore(executor, { prefixReuse: false });
  core.submit(greedy('a', second, deepest, 12, { logprobs: 5 }));
  const answer = drain(core).get('a');
  for (const { token, logprobs } of answer?.events ?? []) {
    t.equal(logprobs?.top.length, 5);
    t.equal(logprobs?.top[0]?.[0], token);
    t.equal(logprobs?.top[0]?.[1], logprobs?.logprob);
  }
  const scored = [...second, ...(answer?.tokens ?? [])];
  const rows: (number | null)[] = [];
  core.submit(greedy('echo', scored, deepest, 0, { promptLogprobs: 1 }));
  const echo = drain(core, ({ prompts }) => {
    for (const { logprobs } of prompts) rows.push(...logprobs.map((row) => row?.logprob ?? null));
  }).get('echo');
  t.equal(echo?.ended?.reason, 'length');
  t.equal(rows.length, scored.length);
  t.equal(rows[0], null);
  const offsets = (answer?.events ?? []).map(({ logprobs }, index) =>
    Math.abs((rows[second.length + index] ?? NaN) - (logprobs?.logprob ?? NaN)),
  );
  // Decoded and scored positions agree to the noise of 8-bit activations (run-prefill.test.ts); another token is nats away.
  t.equal(offsets.length, 12);
  t.ok(offsets.reduce((sum, offset) => sum + offset, 0) / offsets.length < 0.25, `means of ${offsets.join(', ')}`);
});

void t.test('a sampled end token is reported with log-probabilities, outside the answer', async (t) => {
  const [token = -1] = alone(greedy('probe', first, deepest, 1));
  const core = makeCore(executor, { prefixReuse: false });
  core.submit(greedy('scored', first, deepest, 4, { stopTokens: [token], logprobs: 1 }));
  core.submit(greedy('plain', first, deepest, 4, { stopTokens: [token] }));
  const answers = drain(core);
  for (const id of ['scored', 'plain']) {
    t.strictSame(answers.get(id)?.tokens, []);
    t.equal(answers.get(id)?.ended?.reason, 'stop');
  }
  t.equal(answers.get('scored')?.ended?.endToken?.token, token);
  t.equal(answers.get('scored')?.ended?.endToken?.logprobs.top[0]?.[0], token, 'the most likely token');
  t.equal(answers.get('plain')?.ended?.endToken, undefined);
});

void t.test('a dry run gets the plan of a real request, and takes no slot, no step and no place', async (t) => {
  const budget = { totalMs: 60_000, ttftMs: null, tpotMs: null, onMiss: 'continue' } as const;
  const request = (id: string): SequenceRequest => {
    const plain = greedy(id, first, deepest, 6);
    return { ...plain, depth: { ...plain.depth, budget } };
  };
  const core = makeCore(executor, { maxRunning: 1, maxQueue: 2 });
  core.submit({ ...request('idle'), isDryRun: true });
  const step = core.step();
  t.match(step.planned, [{ id: 'idle', isDryRun: true, serviceClass: 'guaranteed' }]);
  t.match(step.ended, [{ id: 'idle', reason: 'length', isDryRun: true, startedAt: null, promptTokens: first.length }]);
  t.same([step.tokens, step.load.running, step.load.waiting, step.work, core.busy], [[], 0, 0, null, false]);

  const real = makeCore(executor, { maxRunning: 1, maxQueue: 2 });
  real.submit(request('real'));
  const [plan] = real.step().planned;
  const [preview] = step.planned;
  t.same([preview?.exit, preview?.expectedTokens], [plan?.exit, plan?.expectedTokens]);
  t.ok((preview?.predictedMs ?? Infinity) < 2 * (plan?.predictedMs ?? 0));
  drain(real);

  for (const id of ['before', 'beside']) core.submit({ ...request(id), isDryRun: true });
  for (const id of ['a', 'b', 'c']) core.submit(request(id));
  core.submit({ ...request('full'), isDryRun: true });
  const plans = new Map<string, number>();
  const rejected: string[] = [];
  const answers = drain(core, ({ planned, rejected: events }) => {
    for (const { id, reason } of events) rejected.push(`${id} ${reason}`);
    for (const event of planned) plans.set(event.id, event.predictedMs);
  });
  t.same([...plans.keys()], ['a', 'b', 'c', 'before', 'beside'], 'real requests are admitted first');
  t.same(rejected, ['full queue_full'], 'it is rejected as a real request would be, and takes no place of one');
  t.ok((plans.get('before') ?? 0) > (plans.get('a') ?? Infinity), 'the prediction counts the work ahead');
  t.same(
    ['a', 'b', 'c', 'before', 'beside'].map((id) => answers.get(id)?.tokens.length),
    [6, 6, 6, 0, 0],
  );
  t.same(answers.get('a')?.tokens, alone(request('x')));
});
