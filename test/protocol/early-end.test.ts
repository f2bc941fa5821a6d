/** Which biases leave an answer without an end. */
import t from 'tap';
import { hasNoEnd } from '../../src/protocol/early-end.js';

void t.test('an answer has no end where every end token lies far below another token', async (t) => {
  for (const [what, biases, isEndless, stopTokens = [1, 2]] of [
    ['no bias', {}, false],
    ['no end token', {}, true, []],
    ['all ends are forbidden', { 1: -100, 2: -100 }, true],
    ['one end is left', { 1: -100 }, false],
    ['another token always wins', { 7: 100 }, true],
    ['an end keeps up with it', { 7: 100, 2: 95 }, false],
    ['a small bias leaves the end its chance', { 7: 5 }, false],
    ['a forbidden word leaves it, too', { 7: -100 }, false],
  ] as const) {
    const logitBias = Object.entries(biases).map(([token, bias]) => [Number(token), bias] as const);
    t.equal(hasNoEnd({ stopTokens, sampling: { logitBias } }), isEndless, what);
  }
});
