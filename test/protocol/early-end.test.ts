/** Which answers have an early end, and which biases leave them without one. */
import t from 'tap';
import { greedy } from '../../bench/greedy-request.js';
import { earlyEnd, hasNoEnd } from '../../src/protocol/outcome.js';
import type { OnMiss, SequenceRequest } from '../../src/protocol/index.js';

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

void t.test(
  'an answer may end early where its budget lands, its text may end anywhere and it has an end token',
  (t) => {
    const of = (onMiss: OnMiss, more: Partial<SequenceRequest> = {}): string => {
      const depth = { minExit: 1, maxExit: 1, budget: { totalMs: 500, ttftMs: null, tpotMs: null, onMiss } };
      return earlyEnd(greedy('a', [1], 1, 9, { stopTokens: [2], depth, ...more }));
    };
    const found = (['land', 'reject', 'truncate', 'continue'] as const).map((onMiss) => of(onMiss));
    t.same(found, ['possible', 'possible', 'off', 'off']);
    t.equal(earlyEnd(greedy('a', [1], 1, 9, { stopTokens: [2] })), 'off', 'no budget');
    t.equal(of('land', { grammar: { kind: 'regex', pattern: '.*' } }), 'grammar');
    t.equal(of('land', { stopTokens: [] }), 'exact_length');
    t.end();
  },
);
