/** Which biases leave an answer without an end. */
import t from 'tap';
import { hasNoEnd } from '../../src/protocol/early-end.js';

void t.test('an answer has no end where every end token lies far below another token', (t) => {
  const ends = (logitBias: readonly (readonly [number, number])[], stopTokens = [1, 2]): boolean =>
    !hasNoEnd({ stopTokens, sampling: { logitBias } });
  t.ok(ends([]));
  t.notOk(ends([], []), 'no end token');
  t.notOk(
    ends([
      [1, -100],
      [2, -100],
    ]),
    'all ends are forbidden',
  );
  t.ok(ends([[1, -100]]), 'one end is left');
  t.notOk(ends([[7, 100]]), 'another token always wins');
  t.ok(
    ends([
      [7, 100],
      [2, 95],
    ]),
    'an end keeps up with it',
  );
  t.ok(ends([[7, 5]]), 'a small bias leaves the end its chance');
  t.ok(ends([[7, -100]]), 'a forbidden word leaves it, too');
  t.end();
});
