import t from 'tap';
import type { GenerateMessage } from '../../src/engine/messages.js';
import { Planning } from '../../src/engine/planning.js';
import { GREEDY } from '../../src/engine/sampler.js';
import { Sequence } from '../../src/engine/sequence.js';
import { defaultPolicy, type OnMiss } from '../../src/router/planner.js';
import { shape, table } from '../router/sample.js';

function decoding(id: string, totalMs: number, onMiss: OnMiss = 'continue'): Sequence {
  const request: GenerateMessage = {
    ...{ type: 'generate', id, arrivedAt: 0, prompt: [1, 2, 3], maxTokens: 100, minTokens: 0, stopTokens: [] },
    ...{ sampling: GREEDY, logprobs: null, promptLogprobs: null },
    depth: { minExit: 10, maxExit: 30, budget: { totalMs, ttftMs: null, tpotMs: null, onMiss } },
  };
  const sequence = new Sequence(request, 4);
  sequence.accept(5, 10);
  return sequence;
}

void t.test('truncate ends before a step that may take as long as the last one, others prompts included', async (t) => {
  const planning = new Planning(shape, table, defaultPolicy);
  const sequence = decoding('a', 1000, 'truncate');
  t.notOk(planning.isOverdue(sequence, 900));
  const decode = { rows: [0, 0, 0, 0, 1], context: 100 };
  planning.stepDone({ decode, prefill: [{ exit: 4, positions: 128, context: 0, chunk: 128 }] }, 120);
  t.ok(planning.isOverdue(sequence, 900));
  t.notOk(planning.isOverdue(decoding('b', 1000, 'continue'), 900));
});

void t.test('a large batch is planned every other step, and at once when somebody ends', async (t) => {
  const planning = new Planning(shape, table, defaultPolicy);
  const live = Array.from({ length: 30 }, (_, i) => decoding(`r${i}`, 500));
  const room = { slots: 32, kvRoom: 1e6 };
  t.ok(planning.replan(live, [], room, 20).exits.length > 0, 'planned');
  t.equal(planning.replan(live, [], room, 25).exits.length, 0, 'held');
  t.ok(planning.replan(live, [], room, 30).exits.length > 0, 'planned');
  t.ok(planning.replan(live.slice(1), [], room, 35).exits.length > 0, 'somebody ended');
});
