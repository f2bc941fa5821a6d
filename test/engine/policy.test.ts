import t from 'tap';
import { planCompaction } from '../../src/engine/scheduler/kv/compaction.js';
import { chunkEnd } from '../../src/engine/scheduler/chunks.js';
import { kernelChoice } from '../../src/engine/execution/kernels.js';
import { findPrefix } from '../../src/engine/scheduler/kv/prefix.js';
import { randomStream } from '../../src/engine/draws.js';
import { GREEDY } from '../../src/protocol/sampling-rules.js';
import { sampleFull } from './answers.js';
import { sampleTop } from '../../src/engine/sampling/sampler.js';
import { Slot } from '../../src/engine/scheduler/kv/slot.js';
import { chunkSizes } from '../../src/engine/scheduler/policy.js';

void t.test('planCompaction moves the deepest rows to the front and counts unneeded rows', async (t) => {
  t.strictSame(
    planCompaction(
      [
        { index: 0, stage: 1 },
        { index: 1, stage: 0 },
      ],
      2,
    ).swaps,
    [],
  );
  t.strictSame(
    planCompaction(
      [
        { index: 0, stage: 0 },
        { index: 1, stage: 1 },
      ],
      2,
    ),
    { swaps: [[0, 1]], waste: [0, 1] },
  );
  const { swaps, waste } = planCompaction(
    [
      { index: 5, stage: 1 },
      { index: 2, stage: 0 },
      { index: 0, stage: 1 },
    ],
    2,
  );
  t.strictSame(swaps, [[1, 5]]);
  t.strictSame(waste, [3, 4]);
  const rows = [3, 7, 1, 9, 4].map((index, i) => ({ index, stage: i % 3 }));
  const at = new Map(rows.map(({ index, stage }) => [index, stage]));
  for (const [a, b] of planCompaction(rows, 3).swaps) {
    const [left, right] = [at.get(a), at.get(b)];
    at.delete(a);
    at.delete(b);
    if (left !== undefined) at.set(b, left);
    if (right !== undefined) at.set(a, right);
  }
  t.strictSame(
    [...at].sort(([a], [b]) => a - b).map(([, stage]) => stage),
    [2, 1, 1, 0, 0],
  );
});

void t.test('chunks: sizes rise to the limit, and no chunk leaves a single position', async (t) => {
  t.strictSame(chunkSizes(100), [16, 32, 64, 100]);
  t.equal(chunkEnd(0, 64, 200), 64);
  t.equal(chunkEnd(0, 64, 65), 63);
  t.equal(chunkEnd(0, 64, 10), 10);
});

void t.test('prefix: longest exact match; its slot is taken over only if most of it matches', async (t) => {
  const stored = new Slot(0, 1);
  stored.tokens = Array.from({ length: 40 }, (_, i) => i);
  stored.reach(0, 40);
  const tokens = [...stored.tokens, 1, 2, 3];
  t.match(findPrefix(tokens, [stored], [0]), { length: 40, takeOver: true });
  stored.live = true;
  t.match(findPrefix(tokens, [stored], [0]), { length: 40, takeOver: false });
  t.match(findPrefix(tokens.slice(0, 42), [stored], [0]), { length: 39 }, 'never a single position to prefill');
  t.match(findPrefix(tokens.slice(0, 41), [stored], [0]), { length: 40 }, 'with nothing to prefill, all but the last');
  t.match(findPrefix(tokens.slice(0, 18), [stored], [0]), { length: 17 });
  t.equal(findPrefix(tokens.slice(0, 16), [stored], [0]), null, 'fewer than 16 can be reused');
  t.equal(findPrefix([5, ...tokens], [stored], [0]), null);
  stored.live = false;
  const first = (length: number) => [...stored.tokens.slice(0, length), 1, 2, 3];
  t.match(findPrefix(first(21), [stored], [0]), { length: 21, takeOver: true });
  t.match(
    findPrefix(first(20), [stored], [0]),
    { length: 20, takeOver: false },
    'half of the stored prefix would be lost',
  );
});

void t.test('prefix: the match that saves most at an exit, beyond the own slot', async (t) => {
  const tokens = Array.from({ length: 60 }, (_, i) => i);
  const [shallow, deep] = [new Slot(0, 3), new Slot(1, 3)];
  shallow.tokens = deep.tokens = tokens;
  shallow.reach(0, 50);
  deep.reach(0, 40);
  deep.reach(1, 40);
  t.match(findPrefix(tokens, [shallow, deep], [0]), { slot: { index: 0 }, length: 50 });
  t.match(findPrefix(tokens, [shallow, deep], [0, 1]), { slot: { index: 1 }, length: 40 });
  t.match(findPrefix(tokens, [shallow, deep], [0, 1], deep), null, '10 further positions are too few');
  t.match(findPrefix(tokens, [shallow, deep], [0, 1], shallow), { slot: { index: 1 }, length: 40 });
  shallow.reach(0, 60);
  t.match(findPrefix(tokens, [shallow], [0, 1]), { length: 57 }, 'the deeper units have positions to process');
});

void t.test('kernel: the cheapest for these rows', async (t) => {
  const cost = (kernel: string, one: number, many: number) => ({
    unit: 's',
    kernel,
    decode: [
      { rows: 1, context: 0, ms: one },
      { rows: 16, context: 0, ms: many },
    ],
    prefill: [
      { rows: 16, context: 0, ms: one },
      { rows: 128, context: 0, ms: many },
    ],
  });
  const choose = kernelChoice(['s'], ['int4', 'w8a8'], { units: [cost('int4', 2, 16), cost('w8a8', 4, 12)] });
  t.equal(choose(0, 'decode', 1, 100), 'int4');
  t.equal(choose(0, 'decode', 16, 100), 'w8a8');
  t.equal(choose(0, 'prefill', 128, 0), 'w8a8');
});

void t.test('random: same seed, same stream, uniform', async (t) => {
  const [a, b, c] = [randomStream(1), randomStream(1), randomStream(2)];
  const draws = Array.from({ length: 10_000 }, () => a());
  t.strictSame(
    draws.slice(0, 5),
    Array.from({ length: 5 }, () => b()),
  );
  t.not(draws[0], c());
  t.not(draws[0], randomStream(1 + 2 ** 32)(), 'seeds have more than 32 bits');
  t.not(randomStream(null)(), randomStream(null)(), 'without a seed, a new stream each time');
  const mean = draws.reduce((sum, draw) => sum + draw, 0) / draws.length;
  t.ok(Math.abs(mean - 0.5) < 0.015, `mean ${mean}`);
});

void t.test('sampling from the top logits equals sampling from all', async (t) => {
  const logits = Float32Array.from({ length: 500 }, (_, i) => Math.sin(i * 12.9898) * 40);
  const order = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0));
  const variants = [
    { temperature: 4 },
    { temperature: 0.7, topP: 0.9 },
    { temperature: 1.3, topK: 20 },
    { temperature: 1, minP: 0.3 },
    { temperature: 2, topP: 0.5, minP: 0.05, topK: 40 },
  ];
  for (const variant of variants) {
    const sampling = { ...GREEDY, ...variant };
    const lseT = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit / sampling.temperature), 0));
    const top = { values: order.slice(0, 64).map((id) => logits[id] ?? 0), ids: order.slice(0, 64), lseT };
    let decided = 0;
    for (let i = 0; i < 200; i++) {
      const u = (i + 0.5) / 200;
      const token = sampleTop(top, sampling, u);
      if (token === null) continue;
      decided++;
      t.equal(sampleFull(logits.slice(), sampling, { prompt: new Set(), answer: new Map() }, u), token);
    }
    t.ok(decided > 20, `${JSON.stringify(variant)}: ${decided} of 200 from the top alone`);
  }
});

void t.test('penalties and bias change the sampled token', async (t) => {
  const logits = Float32Array.of(3, 2.5, 1);
  const nothing = { prompt: new Set<number>(), answer: new Map<number, number>() };
  const pick = (change: object, counts = nothing): number | null =>
    sampleFull(logits.slice(), { ...GREEDY, ...change }, counts, 0.5);
  t.equal(pick({}), 0);
  t.equal(pick({ logitBias: [[2, 5]] }), 2);
  t.equal(pick({ logitBias: [[0, -Infinity]] }), 1);
  t.equal(pick({ presencePenalty: 1 }, { ...nothing, answer: new Map([[0, 1]]) }), 1);
  t.equal(pick({ frequencyPenalty: 0.3 }, { ...nothing, answer: new Map([[0, 2]]) }), 1);
  t.equal(pick({ repetitionPenalty: 2 }, { ...nothing, prompt: new Set([0]) }), 1);
  t.equal(pick({ repetitionPenalty: 2 }, { ...nothing, answer: new Map([[0, 1]]) }), 1);
  const below = Float32Array.of(-3, -2, -2.5);
  const penalized = { ...GREEDY, repetitionPenalty: 2 };
  t.equal(sampleFull(below, penalized, { ...nothing, prompt: new Set([1]) }, 0.5), 2, 'also for logits below 0');
});
