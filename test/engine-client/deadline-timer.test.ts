import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import { DeadlineTimer } from '../../src/gateway/engine-client/deadline-timer.js';
import type { EndedEvent, SequenceRequest, OnMiss, StepMessage } from '../../src/protocol/index.js';
import { GREEDY } from '../../src/protocol/request.js';
import { plannedEvent } from '../fakes/engine.js';

const request = (id: string, totalMs: number, onMiss: OnMiss = 'truncate'): SequenceRequest => ({
  id,
  arrivedAt: monotonicMs(),
  prompt: [1, 2, 3],
  maxTokens: 9,
  minTokens: 0,
  stopTokens: [2],
  sampling: GREEDY,
  logprobs: null,
  promptLogprobs: null,
  kind: 'chat',
  depth: { minExit: 1, maxExit: 2, budget: { totalMs, ttftMs: null, tpotMs: null, onMiss } },
});

/** A timer of one test, and the answers that it has ended. */
function watching() {
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

void t.test('an answer ends at its deadline while the engine is silent, planned or not', async (t) => {
  const { watch, ends } = watching();
  const asked = request('a', 60);
  watch.add(asked);
  watch.add(request('no plan', 60));
  watch.add(request('land', 60, 'land'));
  watch.add(request('reject', 60, 'reject'));
  watch.add(request('reject, no plan', 60, 'reject'));
  watch.add(request('continue', 60, 'continue'));
  watch.add({ ...request('exact length', 60, 'land'), stopTokens: [] });
  watch.add(request('ended before', 60));
  watch.hear(heard(['a', 'land', 'reject', 'continue', 'ended before'], ['a']));
  watch.hear({ ...heard([], ['a']), at: 9 });
  watch.drop('ended before');
  await sleep(120);
  const byId = ends.toSorted((a, b) => a.id.localeCompare(b.id));
  t.match(byId, [
    { id: 'a', reason: 'deadline', startedAt: null, firstTokenAt: 7, promptTokens: 3 },
    { id: 'land', reason: 'deadline' },
    { id: 'no plan', reason: 'deadline', firstTokenAt: null },
    { id: 'reject', reason: 'deadline' },
  ]);
  t.equal(ends.length, 4, 'the engine rejects a request with reject that has no plan');
  for (const { id, endedAt } of ends) {
    const lateMs = endedAt - asked.arrivedAt - 60;
    t.ok(lateMs >= -21, `${id}: ${lateMs} ms`);
  }
});

void t.test('a request with reject that a silent engine does not plan is rejected behind its deadline', async (t) => {
  const { watch, ends, rejected } = watching();
  watch.add(request('silent', 60, 'reject'));
  watch.add(request('planned', 60, 'reject'));
  watch.add(request('rejected', 60, 'reject'));
  watch.hear(heard(['planned'], []));
  watch.drop('rejected');
  await sleep(150);
  t.same([ends.map(({ id }) => id), rejected], [['planned'], []], 'the engine has a step to name the least budget');
  await sleep(300);
  t.same([ends.length, rejected], [1, ['silent']]);
});

void t.test('the engine has 10 ms to plan a request whose budget is already over', async (t) => {
  const { watch, ends } = watching();
  const asked = request('a', 1);
  watch.add(asked);
  await sleep(40);
  t.equal(ends.length, 1);
  t.ok((ends[0]?.endedAt ?? 0) - asked.arrivedAt >= 9);
});

void t.test('answers that end together end earlier: their last bytes leave one after the other', async (t) => {
  const { watch, ends } = watching();
  const asked = request('a', 100);
  const ids = Array.from({ length: 9 }, (_, i) => String(i));
  for (const id of ids) watch.add({ ...asked, id });
  watch.add({ ...request('later', 130), arrivedAt: asked.arrivedAt });
  await sleep(200);
  t.same(ends.map(({ id }) => id).sort(), [...ids, 'later'].sort());
  const endedAt = (id: string): number => (ends.find((end) => end.id === id)?.endedAt ?? NaN) - asked.arrivedAt;
  t.ok(endedAt('8') >= 80, 'at most 16 ms, and 4 for its own');
  t.ok(endedAt('later') >= 125, 'an answer with another deadline gives nothing up');
  t.ok(ends.findIndex(({ id }) => id === '8') < ends.findIndex(({ id }) => id === '0'));
});
