/** Sampling under a constraint, a least length, penalties and temperatures, with a fake head. */
import t from 'tap';
import type { Answer } from '../../../src/engine/answer.js';
import { constraintOf, answerOf, sampleFull } from '../answers.js';
import { prepareBatch, sampleBatch, type SampledToken } from '../../../src/engine/sampling/sample-batch.js';
import type { Constraint } from '../../../src/engine/constraint.js';
import type { EndPressure } from '../../../src/engine/landing/pressure.js';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { Draws } from '../../../src/engine/draws.js';
import type { Head } from '../../../src/engine/model/head.js';
import { greedy } from '../../../bench/greedy-request.js';
import { GREEDY } from '../../../src/protocol/request.js';

const VOCAB = 8;
/** Descending: the model prefers token 0. */
const logits = Float32Array.from({ length: VOCAB }, (_, id) => VOCAB - id);
const nothing = (): void => undefined;
/** Log-sum-exp of all logits times an inverse temperature. */
const lse = (inverse: number): number => Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit * inverse), 0));
const head: Head = {
  inverseTemperatures: new Float32Array(1),
  targets: new BigInt64Array(1),
  argmaxIds: new BigInt64Array(1),
  applyPenalties: nothing,
  choose: nothing,
  selected: () => ({
    values: logits,
    ids: BigInt64Array.from(logits, (_, id) => BigInt(id)),
    lse: 9,
    lseT: lse(head.inverseTemperatures[0] ?? NaN),
    target: 0,
  }),
  fullLogits: () => logits.slice(),
};

/** The tokens of a batch. */
function sample(over: Head, answers: readonly Answer[]): SampledToken[] {
  prepareBatch(over, answers);
  return sampleBatch(over, answers);
}

/** A constraint that allows only these tokens. */
function allowing(...ids: number[]): Constraint {
  return constraintOf(Uint8Array.from({ length: VOCAB }, (_, id) => Number(ids.includes(id))));
}

/** First token of an answer with min_tokens, and whether it ends the answer. */
function chosen(constraint: Constraint, stopTokens = [6, 7]): [number | undefined, boolean] {
  const answer = answerOf(greedy('a', [1, 2], 1, 20, { minTokens: 5, stopTokens }), undefined, constraint);
  const [choice] = sample(head, [answer]);
  return [choice?.token, answer.accept(choice?.token ?? NaN)];
}

void t.test('a complete answer ends before min_tokens, with an end token', async (t) => {
  t.strictSame(chosen(allowing(7)), [7, true]);
  t.strictSame(chosen(allowing(6, 7)), [6, true]);
});

void t.test('an end token comes as soon as min_tokens is reached, and not earlier', async (t) => {
  // Token 0 is the most likely one.
  const answer = answerOf(greedy('a', [3, 4], 1, 20, { minTokens: 2, stopTokens: [0] }));
  const ends = [1, 2, 3].map(() => answer.accept(sample(head, [answer])[0]?.token ?? NaN));
  t.strictSame(ends, [false, false, true]);
  t.strictSame(answer.tokens, [3, 4, 1, 1]);
});

void t.test('log-probabilities are those of the model, without the bias', async (t) => {
  const sampling = { ...GREEDY, logitBias: [[5, 100]] as const };
  const answer = answerOf(greedy('a', [3, 4], 1, 20, { logprobs: 2, sampling }));
  const [choice] = sample(head, [answer]);
  t.strictSame(choice, {
    token: 5,
    logprobs: {
      logprob: VOCAB - 5 - 9,
      top: [
        [0, VOCAB - 9],
        [1, VOCAB - 1 - 9],
      ],
    },
  });
});

/** The next token of an answer with end token 7 under this pressure. */
function pressed(
  amount: number,
  more: Partial<SequenceRequest> = {},
  isLifted: EndPressure['isLifted'] = null,
): SampledToken | undefined {
  const answer = answerOf(greedy('a', [3, 4], 1, 20, { stopTokens: [7], ...more }));
  answer.endPressures = [{ amount, isLifted }];
  return sample(head, [answer])[0];
}

void t.test('end pressure lands an answer only where the model alone would go on', async (t) => {
  t.strictSame(pressed(6), { token: 0, logprobs: null }, 'the end token is 7 below the best');
  const probability = Math.exp(1 - 9);
  t.strictSame(pressed(8), { token: 7, logprobs: null, landed: { pressure: 8, probability } });
  const two = pressed(8, { stopTokens: [6, 7, 6] })?.landed?.probability ?? 0;
  t.ok(Math.abs(two - probability - Math.exp(2 - 9)) < 1e-9, 'the probability of any end token');
  t.strictSame(pressed(8, { stopTokens: [0] }), { token: 0, logprobs: null }, 'the model ends here by itself');
  t.strictSame(pressed(8, { minTokens: 1 })?.token, 0, 'an answer below min_tokens goes on');
});

void t.test('a preferred token that continues the sentence lifts the pressure', async (t) => {
  t.strictSame(
    pressed(50, {}, (next) => next === 0),
    { token: 0, logprobs: null },
  );
  t.equal(pressed(50, {}, (next) => next !== 0)?.token, 7);
  t.equal(pressed(50, { stopTokens: [0, 7] }, () => true)?.token, 0, 'the model prefers the end');
});

void t.test('with the same draw, pressure lands a sampled answer or reports nothing', async (t) => {
  let landed = 0;
  for (let seed = 0; seed < 200; seed++) {
    const sampling = { ...GREEDY, temperature: 2, seed };
    const logits = Float32Array.from({ length: VOCAB }, (_, id) => VOCAB - id);
    const counts = { prompt: new Set<number>(), answer: new Map<number, number>() };
    const alone = sampleFull(logits, sampling, counts, new Draws(seed).next());
    const choice = pressed(5, { sampling, logprobs: 0 });
    t.equal(choice?.landed !== undefined, choice?.token === 7 && alone !== 7, `seed ${seed}`);
    if (choice?.landed) landed++;
    t.equal(choice?.logprobs?.logprob, VOCAB - (choice?.token ?? NaN) - 9, 'reported without pressure');
  }
  t.ok(landed > 20 && landed < 150, `${landed} of 200`);
});

void t.test('rows of different temperatures sample as from all logits, each with its own draws', async (t) => {
  const rows = [0, 0.25, 2, 1].map((temperature, seed) => ({ ...GREEDY, temperature, seed: seed + 1 }));
  const inverseTemperatures = new Float32Array(rows.length);
  const batch: Head = {
    applyPenalties: nothing,
    choose: nothing,
    fullLogits: () => logits.slice(),
    inverseTemperatures,
    targets: new BigInt64Array(rows.length),
    argmaxIds: new BigInt64Array(rows.length),
    // As on the device: with the temperature in the input.
    selected: (row: number) => ({ ...head.selected(row), lse: lse(1), lseT: lse(inverseTemperatures[row] ?? NaN) }),
  };
  const answers = rows.map((sampling) => answerOf(greedy('a', [1], 1, 99, { sampling })));
  const draws = rows.map(({ seed }) => new Draws(seed));
  const none = { prompt: new Set<number>(), answer: new Map<number, number>() };
  for (let i = 0; i < 40; i++) {
    const expected = rows.map((sampling, row) =>
      // A greedy row takes no draw.
      sampleFull(logits.slice(), sampling, none, row === 0 ? 0 : (draws[row]?.next() ?? NaN)),
    );
    const tokens = sample(batch, answers).map(({ token }) => token);
    t.strictSame(tokens, expected);
  }
});
