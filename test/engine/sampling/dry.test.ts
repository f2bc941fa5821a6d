/** The rule against loops: which tokens it penalizes, and by how much. */
import fc from 'fast-check';
import t from 'tap';
import { constraintOf, answerOf } from '../answers.js';
import { repetitionPenalties } from '../../../src/engine/sampling/sampler.js';
import type { SequenceRequest, Sampling } from '../../../src/protocol/index.js';
import type { Constraint } from '../../../src/engine/constraint.js';
import { dryPenalties } from '../../../src/engine/sampling/sample-batch.js';
import { GREEDY } from '../../../src/protocol/request.js';
import type { Answer } from '../../../src/engine/answer.js';
import { greedy } from '../../../bench/greedy-request.js';

const RULE = { multiplier: 8, base: 2, allowedLength: 3 };
const OFF = { ...RULE, multiplier: 0 };

const withDry = (dry: Sampling['dry']): Partial<SequenceRequest> => ({
  sampling: dry === undefined ? GREEDY : { ...GREEDY, dry },
});

void t.test('a token that would repeat three tokens or more is penalized by their number', async (t) => {
  const after = (answer: readonly number[], rule = RULE): [number, number][] => [
    ...repetitionPenalties(answer, 0, rule),
  ];
  t.strictSame(after([1, 2, 3, 4, 1, 2]), [], 'two tokens are allowed');
  t.strictSame(after([1, 2, 3, 4, 1, 2, 3]), [[4, 8]]);
  t.strictSame(after([9, 1, 2, 3, 4, 9, 1, 2, 3]), [[4, 16]], 'four tokens');
  t.strictSame(after([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3]), [[5, 8], [4, 8]], 'every continuation'); // prettier-ignore
  t.strictSame(after([1, 2, 3, 4, 9, 1, 2, 3, 4, 9, 1, 2, 3]), [[4, 256]], 'the longest repetition counts');
  t.strictSame(after([7, 7, 7, 7]), [[7, 8]]);
  t.strictSame(after([1, 2, 3, 4, 1, 2, 3], OFF), []);
  t.strictSame(after([]), []);
  t.strictSame([...repetitionPenalties([1, 2, 3, 4, 1, 2, 3], 4, RULE)], [], 'a quotation of the prompt is allowed');
});

void t.test('repetitionPenalties finds every repetition, and nothing else', async () => {
  const rules = fc.record({
    multiplier: fc.constant(1),
    base: fc.constant(2),
    allowedLength: fc.integer({ min: 1, max: 4 }),
  });
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 40 }),
      fc.nat(8),
      rules,
      (tokens, start, rule) => {
        const answer = tokens.slice(start);
        const expected = new Map<number, number>();
        for (let at = 1; at < answer.length; at++)
          for (let n = rule.allowedLength; n <= at; n++)
            if (answer.slice(at - n, at).join() === answer.slice(answer.length - n).join()) {
              const token = answer[at] ?? NaN;
              expected.set(token, Math.max(expected.get(token) ?? 0, 2 ** (n - rule.allowedLength)));
            }
        const found = repetitionPenalties(tokens, start, rule);
        const same =
          found.size === expected.size && [...found].every(([token, amount]) => expected.get(token) === amount);
        if (!same) throw new Error(`got ${JSON.stringify([...found])}, not ${JSON.stringify([...expected])}`);
      },
    ),
    { numRuns: 2000 },
  );
});

void t.test('each token uses the DRY rule of its exit; an answer under a grammar has none', async (t) => {
  const said = [5, 1, 2, 3, 4, 1, 2, 3];
  const constraint = constraintOf(null);
  const answer = (dry?: Sampling['dry'], form: Constraint | null = null): Answer => {
    const made = answerOf(greedy('a', [5], 15, 20, withDry(dry)), undefined, form);
    made.exitDry = RULE;
    for (const token of said.slice(1)) made.accept(token);
    return made;
  };
  const own = answer();
  t.strictSame([...dryPenalties(own)], [[4, 8]]);
  t.strictSame([...dryPenalties(own, [4])], [[1, 16]], 'after a draft');
  own.exitDry = null;
  t.strictSame([...dryPenalties(own)], [], 'no rule at this exit');
  t.strictSame([...dryPenalties(answer(OFF))], []);
  const stated = answer({ ...RULE, multiplier: 1 });
  stated.exitDry = null;
  t.strictSame([...dryPenalties(stated)], [[4, 1]], "the request's rule, at every exit");
  t.equal(answer(RULE, constraint).dry, null);
  t.same(answer(RULE, { ...constraint, released: true }).dry, RULE, 'a released constraint allows any text');
  t.same(answer(RULE, { ...constraint, isThinking: true }).dry, RULE, 'so do thoughts in front of a grammar');
});
