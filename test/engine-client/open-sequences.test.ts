import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import { OpenSequences } from '../../src/gateway/engine-client/open-sequences.js';
import { SequenceEvents } from '../../src/gateway/engine-client/sequence-events.js';
import type { EndedEvent, SequenceRequest, OnMiss, StepMessage } from '../../src/protocol/index.js';
import { greedy } from '../../bench/greedy-request.js';
import { plannedEvent } from '../fakes/engine.js';
import { movedClock } from '../support/moved-clock.js';

const request = (id: string, totalMs: number, onMiss: OnMiss = 'truncate'): SequenceRequest =>
  greedy(id, [1, 2, 3], 2, 9, {
    arrivedAt: monotonicMs(),
    stopTokens: [2],
    depth: { minExit: 1, maxExit: 2, budget: { totalMs, ttftMs: null, tpotMs: null, onMiss } },
  });

const answer = (): SequenceEvents => new SequenceEvents(1, () => undefined);

/** The sequences of one test, and the answers that ended at their deadlines. */
function watching(t: Test) {
  movedClock(t);
  const ends: EndedEvent[] = [];
  const rejected: string[] = [];
  const sent = new OpenSequences(100, (id, end) => (end === null ? rejected.push(id) : ends.push(end)));
  const add = (request: SequenceRequest): void => {
    sent.add(request, answer(), 0, 0);
  };
  return { sent, add, ends, rejected };
}

function heard(planned: readonly string[], tokens: readonly string[]): StepMessage {
  return {
    type: 'step',
    at: 7,
    rejected: [],
    prompts: [],
    ended: [],
    work: null,
    load: { running: 0, waiting: 0, kvUsed: 0, kvCached: 0, waitMs: 0 },
    planned: planned.map((id) => plannedEvent(id, 1)),
    tokens: tokens.map((id) => ({ id, token: 5, exit: 1, logprobs: null })),
  };
}

/** Its end and the milliseconds from its arrival to it. */
const timesOf = (ends: readonly EndedEvent[], { arrivedAt }: SequenceRequest): [string, number][] =>
  ends.map(({ id, endedAt }) => [id, Math.round(endedAt - arrivedAt)]);

void t.test(
  'an answer ends at its deadline while the engine is silent, planned or not, or 10 ms behind its arrival',
  async (t) => {
    const { sent, add, ends } = watching(t);
    const asked = request('a', 60);
    add(asked);
    add(request('over', 1));
    add(request('no plan', 90));
    add(request('land', 120, 'land'));
    add(request('reject', 150, 'reject'));
    add(request('reject, no plan', 150, 'reject'));
    add(request('continue', 60, 'continue'));
    add({ ...request('exact length', 170, 'land'), stopTokens: [] });
    add(request('ended before', 180));
    sent.hear(heard(['a', 'land', 'reject', 'continue', 'ended before'], ['a']));
    sent.hear({ ...heard([], ['a']), at: 9 });
    sent.end('ended before', 'cancelled');
    await delay(200);
    t.same(timesOf(ends, asked), [
      ['over', 10],
      ['a', 56],
      ['no plan', 86],
      ['land', 116],
      ['reject', 146],
      ['exact length', 166],
    ]);
    t.match(ends.slice(1), [
      { reason: 'deadline', startedAt: null, firstTokenAt: 7, promptTokens: 3 },
      { reason: 'deadline', firstTokenAt: null },
    ]);
  },
);

void t.test('a request with reject that a silent engine does not plan is rejected behind its deadline', async (t) => {
  const { sent, add, ends, rejected } = watching(t);
  add(request('silent', 60, 'reject'));
  add(request('planned', 60, 'reject'));
  add(request('rejected', 60, 'reject'));
  sent.hear(heard(['planned'], []));
  sent.end('rejected', 'cancelled');
  await delay(300);
  t.same([ends.map(({ id }) => id), rejected], [['planned'], []], 'the engine has a step to name the least budget');
  await delay(10);
  t.same([ends.length, rejected], [1, ['silent']]);
});

void t.test(
  'a sequence counts until the engine ends or rejects it; its prompt counts until the engine reads it',
  (t) => {
    const sent = new OpenSequences(2, () => undefined);
    const add = (id: string, unread: number, more = {}): void => {
      sent.add({ ...greedy(id, [1], 1, 9), tenant: 'x', ...more }, answer(), 0, unread);
    };
    const startedAt = monotonicMs();
    add('a', 2 ** 20);
    t.ok(sent.hasRoom('y', 1, 1));
    t.notOk(sent.hasRoom('x', 1, 1), 'its unread prompts are at the bound');
    const waitedMs = sent.unreadMs(startedAt + 100);
    t.ok(waitedMs > 50 && waitedMs <= 100);
    sent.hear(heard(['a'], []));
    t.ok(sent.hasRoom('x', 1, 2 ** 20));
    t.equal(sent.unreadMs(startedAt + 100), 0);
    add('b', 1);
    t.notOk(sent.hasRoom('x', 1, 1), 'both places are taken');
    sent.end('b', 'cancelled');
    t.same(sent.ids, ['a']);
    t.notOk(sent.hasRoom('x', 1, 1), 'its messages are on their way');
    const ends = ['a', 'unknown'].map((id) => ({ id }) as EndedEvent);
    sent.hear({ ...heard([], []), rejected: [{ id: 'b' } as never], ended: ends });
    t.ok(sent.hasRoom('x', 2, 2 ** 30), 'a request of any length passes alone');
    add('c', 1, { grammar: { kind: 'free' } });
    t.equal(sent.unreadMs(startedAt + 100), 0, 'the engine says nothing of a request whose grammar it compiles');
    sent.loseAll('gone');
    t.same([sent.ids, sent.hasRoom('x', 2, 1)], [[], true]);
    t.end();
  },
);
