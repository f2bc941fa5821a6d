import t from 'tap';
import { SequenceEvents, type SequenceEvent } from '../../src/gateway/engine-client/sequence-events.js';

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
