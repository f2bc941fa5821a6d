/** Answers that end together begin to end earlier: one thread writes them one after the other. */
import t from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import { Deadline } from '../../src/gateway/upstream/deadline.js';

void t.test('each deadline beside others leaves them time, to a tenth of its budget', (t) => {
  const now = Math.ceil(monotonicMs());
  const many = Array.from({ length: 200 }, () => new Deadline(now, 6000));
  const left = many.map(({ endsAt }) => now + 6000 - endsAt);
  t.strictSame([left[0], left[1], left[199]], [20, 20.75, 169.25]);
  const [short, later] = [new Deadline(now + 5500, 500), new Deadline(now, 7000)];
  t.equal(now + 6000 - short.endsAt, 50);
  t.equal(now + 7000 - later.endsAt, 20, 'another second');
  for (const each of [...many, short, later]) each.close();
  const alone = new Deadline(now, 6000);
  t.equal(now + 6000 - alone.endsAt, 20);
  alone.close();
  t.end();
});
