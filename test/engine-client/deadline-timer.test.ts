import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import { DeadlineTimer } from '../../src/gateway/engine-client/deadline-timer.js';
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

/** A timer of one test, and the answers that it has ended. */
function watching(t: Test) {
  movedClock(t);
  const ends: EndedEvent[] = [];
  const rejected: string[] = [];
  const watch = new DeadlineTimer(
    (end) => ends.push(end),
    (id) => rejected.push(id),
  );
  return { watch, ends, rejected };
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
    const { watch, ends } = watching(t);
    const asked = request('a', 60);
    watch.add(asked);
    watch.add(request('over', 1));
    watch.add(request('no plan', 90));
    watch.add(request('land', 120, 'land'));
    watch.add(request('reject', 150, 'reject'));
    watch.add(request('reject, no plan', 150, 'reject'));
    watch.add(request('continue', 60, 'continue'));
    watch.add({ ...request('exact length', 170, 'land'), stopTokens: [] });
    watch.add(request('ended before', 180));
    watch.hear(heard(['a', 'land', 'reject', 'continue', 'ended before'], ['a']));
    watch.hear({ ...heard([], ['a']), at: 9 });
    watch.drop('ended before');
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
  const { watch, ends, rejected } = watching(t);
  watch.add(request('silent', 60, 'reject'));
  watch.add(request('planned', 60, 'reject'));
  watch.add(request('rejected', 60, 'reject'));
  watch.hear(heard(['planned'], []));
  watch.drop('rejected');
  await delay(300);
  t.same([ends.map(({ id }) => id), rejected], [['planned'], []], 'the engine has a step to name the least budget');
  await delay(10);
  t.same([ends.length, rejected], [1, ['silent']]);
});

void t.test('answers that end together end earlier: their last bytes leave one after the other', async (t) => {
  const { watch, ends } = watching(t);
  const asked = request('', 100);
  for (const id of ['0', '1', '2', '3', '4', '5']) watch.add({ ...asked, id });
  watch.add(request('another deadline', 130));
  await delay(200);
  t.same(timesOf(ends, asked), [
    ['4', 80],
    ['5', 80],
    ['3', 84],
    ['2', 88],
    ['1', 92],
    ['0', 96],
    ['another deadline', 126],
  ]);
});
