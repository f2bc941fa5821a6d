/** Instants of the event loop's turns. */
import t from 'tap';
import { monotonicMs, turnStartedAt } from '../../src/util/clock.js';

void t.test('inputs of one turn share its start, whatever their handling takes', async (t) => {
  const first = turnStartedAt();
  const until = monotonicMs() + 20;
  while (monotonicMs() < until);
  await Promise.resolve();
  t.equal(turnStartedAt(), first, 'the same turn');
  await new Promise((resolve) => setTimeout(resolve, 1));
  const second = turnStartedAt();
  t.ok(second >= first + 20, 'a later turn begins later');
  t.ok(second <= monotonicMs());
});
