import t from 'tap';
import fc from 'fast-check';
import { SequenceEvents, type SequenceEvent } from '../../src/gateway/engine-client/sequence-events.js';
import { FairQuota } from '../../src/util/fair-quota.js';

const token = (index: number, id: number): SequenceEvent => ({
  ...{ index, type: 'token', at: 0, event: { id: `a-${index}`, token: id, exit: 1, logprobs: null } },
});
const lost = (index: number): SequenceEvent => ({ index, type: 'lost', message: 'gone' });

void t.test('a turn brings all events since the last one, and the last event of each sequence ends it', async (t) => {
  const events = new SequenceEvents(2, () => t.fail('nothing is cancelled'));
  const first = events.next();
  events.add(token(0, 5));
  events.add(token(1, 6));
  events.wake();
  t.same(await first, { done: false, value: [token(0, 5), token(1, 6)] }, 'a reader that waits gets the whole step');
  for (const id of [7, 8]) events.add(token(0, id));
  events.add(lost(1), true);
  t.same((await events.next()).value, [token(0, 7), token(0, 8), lost(1)], 'so does a late reader');
  events.add(lost(0), true);
  events.add(token(0, 9));
  t.same(await events.next(), { done: false, value: [lost(0)] }, 'nothing follows the last event');
  t.same(await events.next(), { done: true, value: undefined });
  await events.return();
});

void t.test('a reader that returns cancels once, and drops what comes later', async (t) => {
  let cancels = 0;
  const events = new SequenceEvents(1, () => cancels++);
  events.add(token(0, 5));
  for await (const [event] of events) {
    t.same(event, token(0, 5));
    break;
  }
  events.add(lost(0), true);
  t.same(await events.next(), { done: true, value: undefined });
  await events.return();
  t.equal(cancels, 1);
});

void t.test('wake ends a wait without events', async (t) => {
  const events = new SequenceEvents(1, () => undefined);
  const next = events.next();
  events.wake();
  t.same(await next, { done: false, value: [] });
});

void t.test('a client alone gets all places, and a new client always finds some', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 32, max: 500 }), fc.array(fc.nat(3), { maxLength: 200 }), (most, takers) => {
      const shares = new FairQuota(most);
      const total = (): number => [0, 1, 2, 3].reduce((sum, client) => sum + shares.held(String(client)), 0);
      for (const client of takers.map(String))
        if (shares.available(client) > 0) shares.acquire(client, shares.available(client));
      return total() < 2 * most && shares.available('new') > 0;
    }),
  );
  const alone = new FairQuota(10);
  t.equal(alone.available('a'), 10);
  alone.acquire('a', 10);
  t.strictSame([alone.available('a'), alone.available('b')], [0, 5]);
  alone.release('a', 4);
  t.strictSame([alone.available('a'), alone.available('b')], [4, 7]);
  t.end();
});
