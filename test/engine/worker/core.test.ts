import t from 'tap';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { answersTo, answerTo, greedy, makeCore, makeExecutor, PROMPTS, within } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const executor = await makeExecutor(t);
const exits = executor.model.manifest.exits.map(({ layer }) => layer);
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
  const { tokens } = answerTo(makeCore(executor, { prefixReuse: false }), request);
  executor.forget(0);
  return tokens;
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
  const asked = requests.flatMap(({ kind, id }) => kinds.slice(kind, kind + 1).map((request) => ({ ...request, id })));
  let steps = 0;
  const ends = new Map<string, number>();
  const seen = new Map<string, number>();
  const answers = answersTo(core, asked, (step) => {
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

// 256 sequences run together, as on a GPU: router and scheduler keep all of them in one batch, with their own answers.

const ROWS = 256;

void t.test('256 sequences at two depths decode in one step, half of them with a budget', async (t) => {
  const modelDir = await tinyModel(t, 'float');
  const options = { modelDir, maxRunning: ROWS, kvMemoryBytes: 2 ** 28, prefixReuse: false };
  const executor = await makeExecutor(t, options);
  const exits = executor.model.manifest.exits.map(({ layer }) => layer);
  // The clock moves only where the test says so: budgets don't depend on the machine's load.
  const core = makeCore(executor, options, () => 0);
  const requests = Array.from({ length: ROWS }, (_, i) => {
    const exit = exits[i % exits.length] ?? 0;
    // A step prefills one prompt. A prompt of one token needs no prefill.
    const prompt = i % 4 < 2 ? [3 + (i % 7)] : [3 + (i % 7), 10 + (i % 11), 30];
    const depth = i % 2 === 0 ? {} : within(exit, 600_000, 'continue');
    return greedy(`r${i}`, prompt, exit, 200, { arrivedAt: 0, ...depth });
  });
  const batches: number[] = [];
  const answers = answersTo(core, requests, ({ tokens }) => batches.push(tokens.length));
  t.ok(batches.filter((rows) => rows === ROWS).length > 10, `largest batch: ${Math.max(...batches)}`);
  t.ok(
    [...answers.values()].every(({ tokens, ended }) => tokens.length === 200 && ended?.preemptions === 0),
    'every answer is complete',
  );
  // Equal prompts at one exit give equal answers, and so does a request alone.
  for (const request of [0, 77, 154, 255].flatMap((i) => requests.slice(i, i + 1))) {
    const { tokens } = answerTo(
      makeCore(executor, options, () => 0),
      request,
    );
    t.strictSame(answers.get(request.id)?.tokens, tokens, request.id);
  }
});
