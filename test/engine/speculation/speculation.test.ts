/**
 * Speculative decoding changes the speed of an answer, and nothing else. With a KV cache of bytes, one position rounds
 * like many (ARCHITECTURE.md, "Depth, exactly"). There, a drafted answer equals the plain one to the last token.
 */
import t from 'tap';
import type { EngineCore } from '../../../src/engine/worker/core.js';
import type { DraftCount, SequenceRequest, Sampling } from '../../../src/protocol/index.js';
import type { Speculate } from '../../../src/protocol/engine-options.js';
import { Draws } from '../../../src/engine/draws.js';
import { GREEDY } from '../../../src/protocol/request.js';
import {
  maySpeculate,
  lookUp,
  lookUpIn,
  FIRST_TOKENS,
  nextLength,
  Speedup,
} from '../../../src/engine/scheduler/drafts/drafts.js';
import { type Answer, answerTo, drain, greedy, makeCore, makeExecutor, PROMPTS } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const tiny = await makeExecutor(t, { modelDir: await tinyModel(t, 'int8') });
const layers = tiny.units.exits.map(({ layer }) => layer);
const [shallow = 0, deepest = 0] = layers;
/** Three tokens and their continuation, repeated. */
const repeating = Array.from({ length: 24 }, (_, i) => 2 + (i % 6) * 31);
const SAMPLED: Sampling = { ...GREEDY, temperature: 0.8, seed: 5 };

/** A strong DRY rule on single tokens: it changes nearly every answer. */
const AGAINST_LOOPS = { multiplier: 5, base: 2, allowedLength: 1 };

const core = (speculate: 'off' | 'all'): EngineCore => makeCore(tiny, { speculate, prefixReuse: false });

interface Course extends Answer {
  readonly steps: number;
  readonly drafts: readonly DraftCount[];
  /** Positions computed by prefill and catch-up. */
  readonly advanced: number;
}

/** One answer, the steps that decoded it, and their drafts. */
function courseOf(core: EngineCore, request: SequenceRequest): Course {
  const drafts: DraftCount[] = [];
  let steps = 0;
  let advanced = 0;
  const answer = answerTo(core, request, ({ tokens, work }) => {
    if (tokens.length > 0) steps++;
    if (work?.draft) drafts.push(work.draft);
    advanced += (work?.prefillTokens ?? 0) + (work?.catchUpTokens ?? 0);
  });
  return { ...answer, steps, drafts, advanced };
}

const total = (of: readonly DraftCount[]): number[] =>
  (['drafted', 'accepted'] as const).map((key) => of.reduce((sum, count) => sum + count[key], 0));

t.afterEach(() => {
  tiny.forget(0);
});

void t.test('lookUp continues like the latest occurrence of the last three tokens', async (t) => {
  t.strictSame(lookUp([1, 2, 3, 4, 9, 1, 2, 3, 5, 6, 1, 2, 3], 3), [5, 6, 1]);
  t.strictSame(lookUp([1, 2, 3, 4, 2, 3], 3), [], 'two tokens are too few');
  t.strictSame(lookUp([1, 2], 3), []);
  t.strictSame(lookUp([7, 7, 7, 7], 5), [7, 7, 7, 7, 7], 'a repetition goes on');
  t.strictSame(lookUp([1, 2, 3, 1, 2, 3, 1, 2, 3], 4), [1, 2, 3, 1]);
});

void t.test('lookUpIn follows a prediction from its beginning, and finds its place again', async (t) => {
  const expected = [1, 2, 3, 4, 5, 6, 7, 8];
  t.strictSame(lookUpIn(expected, [], 3), [1, 2, 3]);
  t.strictSame(lookUpIn(expected, [1, 2], 3), [3, 4, 5]);
  for (const answer of [
    [9, 4, 5, 6],
    [4, 5, 6],
  ])
    t.strictSame(lookUpIn(expected, answer, 4), [7, 8]);
  t.strictSame(lookUpIn(expected, [9], 4), []);
  t.strictSame(lookUpIn(expected, expected, 4), [], 'the prediction is used up');
});

void t.test('drafts grow while all are accepted and shrink while none is', async (t) => {
  t.equal(nextLength(FIRST_TOKENS, FIRST_TOKENS, FIRST_TOKENS), 2 * FIRST_TOKENS);
  const after = (share: number): number => {
    let tokens = FIRST_TOKENS;
    for (let i = 0; i < 10; i++) tokens = nextLength(tokens, tokens, share * tokens);
    return tokens;
  };
  t.ok(after(1) < 32, `${after(1)} at most`);
  t.equal(nextLength(after(1), after(1), 1), after(1), 'partial acceptance changes nothing');
  t.ok(after(0) >= 1 && after(0) < FIRST_TOKENS);
});

void t.test('a source of drafts that does not pay off is skipped, and retried now and then', async (t) => {
  const speedup = new Speedup();
  t.ok(speedup.tryNow(), 'at first');
  for (let i = 0; i < 100; i++) speedup.observe(8, 10);
  t.ok(speedup.ratio < 0.9);
  const tries = Array.from({ length: 1000 }, () => speedup.tryNow()).filter(Boolean).length;
  t.ok(tries > 0 && tries < 20, `${tries} of 1000`);
  for (let i = 0; i < 100; i++) speedup.observe(20, 10);
  t.ok(speedup.tryNow() && speedup.ratio > 1.5);
  speedup.observe(0, 0);
  t.ok(speedup.ratio > 1.5, 'a round without times changes nothing');
});

void t.test('peeking at random draws does not change them', async (t) => {
  const [plain, peeked] = [new Draws(3), new Draws(3)];
  const expected = Array.from({ length: 6 }, () => plain.next());
  t.equal(peeked.peek(2), expected[2]);
  t.equal(peeked.peek(0), expected[0]);
  t.strictSame(
    Array.from({ length: 6 }, () => peeked.next()),
    expected,
  );
});

void t.test('maySpeculate: the operator decides first, then the request', async (t) => {
  const may = (more: Partial<SequenceRequest>, mode: Speculate): boolean =>
    maySpeculate(greedy('a', [1], deepest, 4, more), mode);
  const unseeded = { sampling: { ...SAMPLED, seed: null } };
  t.notOk(may(unseeded, 'off'));
  t.ok(may(unseeded, 'unseeded'));
  t.notOk(may({ sampling: SAMPLED }, 'unseeded'), 'the same seed gives the same answer');
  t.notOk(may({}, 'unseeded'), 'greedy gives the same answer, too');
  t.ok(may({}, 'all'));
  t.ok(may({ speculate: true }, 'unseeded'), 'the request may allow it');
  t.ok(may({ prediction: [1] }, 'unseeded'), 'a prediction allows it');
  t.notOk(may({ speculate: true }, 'off'), 'the operator has the last word');
  t.notOk(may({ ...unseeded, speculate: false }, 'all'));
  t.notOk(may({ ...unseeded, grammar: { kind: 'json', schema: '{}' } }, 'all'), 'masks come token by token');
});

void t.test('drafted answers equal the plain ones, token for token, in fewer steps', async (t) => {
  const kinds: Record<string, Partial<SequenceRequest>> = {
    greedy: {},
    seeded: { sampling: SAMPLED },
    'with top_k': { sampling: { ...SAMPLED, temperature: 1.5, topK: 5 } },
    'with penalties': { sampling: { ...SAMPLED, frequencyPenalty: 0.5, repetitionPenalty: 1.1 } },
    'with a DRY rule': { sampling: { ...GREEDY, dry: AGAINST_LOOPS } },
    'sampled with a DRY rule': { sampling: { ...SAMPLED, dry: AGAINST_LOOPS } },
    'with log-probabilities and a DRY rule': { logprobs: 3, sampling: { ...GREEDY, dry: AGAINST_LOOPS } },
    'with log-probabilities': { logprobs: 3 },
    'with an end token': { stopTokens: Array.from({ length: 40 }, (_, i) => i), minTokens: 5 },
  };
  let rounds = 0;
  for (const [kind, more] of Object.entries(kinds))
    for (const exit of [shallow, deepest]) {
      const request = greedy(kind, repeating, exit, 40, more);
      const plain = courseOf(core('off'), request);
      const drafted = courseOf(core('all'), request);
      t.strictSame(drafted.tokens, plain.tokens, `${kind} at ${exit}`);
      t.strictSame(drafted.ended?.reason, plain.ended?.reason);
      const [found, expected] = [drafted, plain].map(({ events }) =>
        events.map(({ exit: at, logprobs }) => [at, logprobs?.top.map(([id]) => id)]),
      );
      t.strictSame(found, expected);
      t.equal(plain.ended?.drafts, undefined);
      t.equal(drafted.advanced, plain.advanced, 'no verified position is computed again');
      rounds += drafted.drafts.length;
      if (kind === 'greedy') t.ok(drafted.steps < plain.steps, `${drafted.steps} steps instead of ${plain.steps}`);
      t.strictSame(total(drafted.ended?.drafts ?? []), total(drafted.drafts), 'the end event reports them');
      t.equal(tiny.table.used('live'), 0);
    }
  t.ok(rounds > 20, `${rounds} rounds had a draft`);
});

void t.test('a token that the DRY rule penalizes is not drafted', async (t) => {
  const loop = greedy('loop', [3, 5, 8, 13], deepest, 60);
  const prediction = courseOf(core('off'), loop).tokens;
  const rule = { multiplier: 100, base: 2, allowedLength: 3 };
  const { drafts } = courseOf(core('all'), { ...loop, prediction, sampling: { ...GREEDY, dry: rule } });
  const [drafted = 0, accepted] = total(drafts);
  t.ok(drafted > 0, 'the prediction is right until it would repeat itself');
  t.equal(accepted, drafted, 'the draft ends before the repetition');
});

void t.test('a prediction is a source of drafts; a wrong one changes nothing', async (t) => {
  const request = greedy('a', PROMPTS[1]?.map((id) => id % 200) ?? [], deepest, 24, { speculate: true });
  const plain = courseOf(core('off'), request);
  const right = courseOf(core('all'), { ...request, prediction: plain.tokens });
  t.strictSame(right.tokens, plain.tokens);
  t.ok(right.steps <= 6, `${right.steps} steps for ${right.tokens.length} tokens`);
  t.equal(right.ended?.drafts?.find(({ source }) => source === 'prediction')?.accepted, 24 - right.steps);
  const wrong = courseOf(core('all'), { ...request, prediction: plain.tokens.map((id) => (id + 1) % 200) });
  t.strictSame(wrong.tokens, plain.tokens);
});

void t.test('a second sequence stops drafts, and earlier drafts leave no trace', async (t) => {
  const a = greedy('a', repeating, deepest, 30);
  const b = greedy('b', [...repeating].reverse(), shallow, 30, { sampling: SAMPLED });
  const expected = [a, b].map((request) => courseOf(core('off'), request).tokens);
  const both = core('all');
  both.submit(a);
  let steps = 0;
  const answers = drain(both, ({ work, tokens }) => {
    if (++steps === 3) both.submit(b);
    const rows = new Set(tokens.map(({ id }) => id)).size;
    if (rows > 1) t.equal(work?.draft, undefined);
  });
  t.strictSame(answers.get('a')?.tokens, expected[0]);
  t.strictSame(answers.get('b')?.tokens, expected[1]);
});
