/** The sampler, which sorts only as many logits as a draw needs, against one that sorts all. */
import fc from 'fast-check';
import t from 'tap';
import type { Sampling } from '../../../src/protocol/index.js';
import { GREEDY } from '../../../src/protocol/request.js';
import { applyMask } from '../../../src/engine/constraint.js';
import { sampleRow } from '../../../src/engine/sampling/sample-row.js';
import { sampleFull } from '../answers.js';
import { adjust, sampleTop, type TokenCounts, type TopLogits } from '../../../src/engine/sampling/sampler.js';

/** The sampling rules in their plainest form. */
function naive(logits: Float32Array, sampling: Sampling, counts: TokenCounts, u: number): number | null {
  adjust(logits, sampling, counts);
  const { temperature, topK, topP, minP } = sampling;
  let rest = [...logits.keys()]
    .filter((id) => logits[id] !== -Infinity)
    .sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b)
    .map((id) => ({ id, p: 0 }));
  const best = logits[rest[0]?.id ?? 0] ?? 0;
  if (rest.length === 0 || temperature === 0) return rest[0]?.id ?? null;
  if (topK > 0) rest = rest.slice(0, topK);
  for (const each of rest) each.p = Math.exp(((logits[each.id] ?? 0) - best) / temperature);
  const total = rest.reduce((sum, { p }) => sum + p, 0);
  let mass = 0;
  const end = rest.findIndex(({ p }, i) => {
    if (i > 0 && (p < minP * (rest[0]?.p ?? 0) || mass >= topP * total)) return true;
    mass += p;
    return false;
  });
  if (end >= 0) rest = rest.slice(0, end);
  let left = u * mass;
  for (const { id, p } of rest) if ((left -= p) < 0) return id;
  return rest.at(-1)?.id ?? 0;
}

const row = fc
  .tuple(fc.integer({ min: 1, max: 3000 }), fc.integer(), fc.constantFrom(0.5, 3, 12), fc.boolean())
  .map(([length, seed, spread, masked]) =>
    Float32Array.from({ length }, (_, i) => {
      const noise = Math.imul(i + 1, 0x9e3779b1 ^ seed) >>> 0;
      // Steps of a quarter create ties.
      return masked && noise % 3 === 0 ? -Infinity : Math.round(Math.sin(noise) * spread * 4) / 4 + 0;
    }),
  );

const rules = fc.record({
  temperature: fc.constantFrom(0, 0.3, 1, 2),
  topK: fc.constantFrom(0, 1, 7, 200, 5000),
  topP: fc.constantFrom(1, 0.999, 0.9, 0.3, 0),
  minP: fc.constantFrom(0, 0.001, 0.2, 1),
  repetitionPenalty: fc.constantFrom(1, 1.3),
  presencePenalty: fc.constantFrom(0, 0.7),
});

void t.test('sampling equals sorting everything', async (t) => {
  const counts = { prompt: new Set([0, 5, 9]), answer: new Map([[5, 2]]) };
  fc.assert(
    fc.property(row, rules, fc.double({ min: 0, max: 0.999999, noNaN: true }), (logits, change, u) => {
      // Penalties of ids beyond the row would only add properties to the array.
      if (logits.length < 10) return;
      const sampling = { ...GREEDY, ...change };
      const expected = naive(logits.slice(), sampling, counts, u);
      const token = sampleFull(logits.slice(), sampling, counts, u);
      if (token !== expected) throw new Error(`got ${token ?? 'nothing'}, not ${expected ?? 'nothing'}`);
    }),
    { numRuns: 500 },
  );
  t.equal(sampleFull(new Float32Array(3).fill(-Infinity), GREEDY, counts, 0.5), null, 'no token is possible');
});

/** The largest logits of a row, as the head selects them. */
function topOf(logits: Float32Array, count: number, temperature: number): TopLogits {
  const ids = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b).slice(0, count);
  const inverse = temperature > 0 ? 1 / temperature : 1;
  const best = (logits[ids[0] ?? 0] ?? 0) * inverse;
  const sum = logits.reduce((sum, logit) => sum + Math.exp(logit * inverse - best), 0);
  return { ids, values: ids.map((id) => logits[id] ?? NaN), lseT: best + Math.log(sum) };
}

void t.test('a row samples by its largest logits as by all of them, with changes and a mask', async (t) => {
  const counts = { prompt: new Set([0, 5, 9]), answer: new Map([[5, 2]]) };
  const more = fc.record({
    bias: fc.array(fc.tuple(fc.nat(12), fc.constantFrom(-Infinity, -3, 1, 40)), { maxLength: 3 }),
    every: fc.constantFrom(null, 2, 3, 5000),
    count: fc.constantFrom(8, 64),
    u: fc.double({ min: 0, max: 0.999999, noNaN: true }),
  });
  let reads = 0;
  fc.assert(
    fc.property(row, rules, more, (logits, change, { bias, every, count, u }) => {
      if (logits.length < count + 10 || logits.includes(-Infinity)) return;
      const sampling = { ...GREEDY, ...change, logitBias: bias };
      const mask = every === null ? null : Uint8Array.from(logits, (_, id) => Number((id + 1) % every === 0));
      const read = (): Float32Array => {
        reads++;
        return logits.slice();
      };
      const top = topOf(logits, count, change.temperature);
      const token = sampleRow(top, read, sampling, () => counts, mask, u);
      const own = logits.slice();
      if (mask !== null) applyMask(own, mask);
      const expected = naive(own, sampling, counts, u);
      if (token !== expected) throw new Error(`got ${token ?? 'nothing'}, not ${expected ?? 'nothing'}`);
    }),
    { numRuns: 1000 },
  );
  t.ok(reads > 100 && reads < 1000, `${reads} rows of 1000 were read whole`);
});

void t.test('sampleTop returns null if the draw may fall below the top logits', async (t) => {
  // A hundred equally likely tokens, of which ten are in the top.
  const ids = Array.from({ length: 10 }, (_, i) => i);
  const flat = { values: ids.map(() => 0), ids, lseT: Math.log(100) };
  const draw = (rule: Partial<Sampling>, u: number): number | null =>
    sampleTop(flat, { ...GREEDY, temperature: 1, ...rule }, u);
  t.same([draw({}, 0.055), draw({}, 0.5)], [5, null]);
  t.same([draw({ topK: 5 }, 0.5), draw({ topK: 10 }, 0.99), draw({ topK: 11 }, 0.055)], [2, 9, null]);
  t.same([draw({ topP: 0.075 }, 0.99), draw({ topP: 0.5 }, 0.055)], [7, null]);
  t.equal(draw({ minP: 0.5 }, 0.055), null);
});

void t.test('penalties and bias change the sampled token', async (t) => {
  const logits = Float32Array.of(3, 2.5, 1);
  const nothing = { prompt: new Set<number>(), answer: new Map<number, number>() };
  const pick = (change: object, counts = nothing, of = logits): number | null =>
    sampleFull(of.slice(), { ...GREEDY, ...change }, counts, 0.5);
  t.equal(pick({}), 0);
  t.equal(pick({ logitBias: [[2, 5]] }), 2);
  t.equal(pick({ logitBias: [[0, -Infinity]] }), 1);
  t.equal(pick({ presencePenalty: 1 }, { ...nothing, answer: new Map([[0, 1]]) }), 1);
  t.equal(pick({ frequencyPenalty: 0.3 }, { ...nothing, answer: new Map([[0, 2]]) }), 1);
  t.equal(pick({ repetitionPenalty: 2 }, { ...nothing, prompt: new Set([0]) }), 1);
  t.equal(pick({ repetitionPenalty: 2 }, { ...nothing, answer: new Map([[0, 1]]) }), 1);
  t.equal(
    pick({ repetitionPenalty: 2 }, { ...nothing, prompt: new Set([1]) }, Float32Array.of(-3, -2, -2.5)),
    2,
    'below 0',
  );
});
