import t from 'tap';
import type { EngineRequest } from '../../../src/protocol/index.js';
import { workTo } from '../../../src/scheduler/chunks.js';
import { stateOf, viewOf } from '../../../src/engine/worker/views.js';
import { GREEDY } from '../../../bench/greedy-request.js';
import { Sequence } from '../../../src/scheduler/sequence.js';
import { Slot } from '../../../src/scheduler/kv/slot.js';
import { defaultPolicy, type EngineState, type OnMiss, Router, type SequenceView } from '../../../src/scheduler/router.js';
import { blockLayers, blockShape, blockTable, shape, table } from '../../scheduler/sample.js';

function decoding(id: string, totalMs: number, onMiss: OnMiss = 'continue'): Sequence {
  const request: EngineRequest = {
    id,
    arrivedAt: 0,
    prompt: [1, 2, 3],
    maxTokens: 100,
    minTokens: 0,
    stopTokens: [],
    sampling: GREEDY,
    logprobs: null,
    promptLogprobs: null,
    lengthGroup: { kind: 'chat', key: null },
    depth: { minExit: 10, maxExit: 30, budget: { totalMs, ttftMs: null, tpotMs: null, onMiss } },
  };
  const sequence = new Sequence(request, 4);
  sequence.accept(5, 10);
  return sequence;
}

const decode = { rows: [0, 0, 0, 0, 1], context: 100 };

const view = (sequence: Sequence): SequenceView => viewOf(sequence, shape);
const idleAt = (now: number): EngineState =>
  stateOf({ slots: 64, live: [], waiting: [], now, sentenceTokens: 24, kvPositions: 1e6 }, shape);

void t.test('truncate ends a sequence before a step, with its prefill, that would exceed the deadline', async (t) => {
  const router = new Router(shape, table, defaultPolicy);
  const sequence = decoding('a', 1000, 'truncate');
  t.notOk(router.isOverdue(view(sequence), 950, { decode, prefill: [] }));
  const chunk = { exit: 4, positions: 128, context: 0, chunk: 128 };
  t.ok(router.isOverdue(view(sequence), 965, { decode, prefill: [chunk] }));
  t.notOk(router.isOverdue(view(decoding('b', 1000, 'continue')), 990, { decode, prefill: [chunk] }));
});

void t.test('the catch-up of an exit block counts as one piece, as it runs', async (t) => {
  const router = new Router(blockShape, blockTable, defaultPolicy);
  const { request } = decoding('a', 1000, 'truncate');
  const prompt = Array.from({ length: 129 }, (_, i) => i);
  const sequence = new Sequence({ ...request, prompt, depth: { ...request.depth, minExit: 8 } }, 0);
  const slot = new Slot(0, 2 * blockLayers.length - 1);
  for (let stage = 0; stage < blockLayers.length; stage++) slot.reach(stage, 128);
  sequence.slot = slot;
  const prefill = workTo(router, sequence, 128);
  const piece = { exit: 0, positions: 128, context: 0, chunk: 128, from: 1 };
  t.strictSame(prefill, [piece]);
  const decode = { rows: [1, 0, 0, 0, 0], context: 129 };
  const ms = router.predictMs({ decode, prefill: [piece] });
  t.notOk(router.isOverdue(viewOf(sequence, blockShape), 988 - 1.1 * ms, { decode, prefill }), 'the step ends in time');
});

void t.test(
  'truncate predicts an ordinary step even if some are slow; the gateway ends those at the deadline',
  async (t) => {
    const router = new Router(shape, table, defaultPolicy);
    const begun = decoding('a', 1000, 'truncate');
    const fresh = new Sequence(begun.request, 4);
    const work = { decode, prefill: [] };
    for (let i = 0; i < 64; i++) router.observeStep(work, router.predictMs(work) * (i % 8 === 0 ? 8 : 1));
    const ms = router.predictMs(work);
    for (const sequence of [begun, fresh]) {
      t.notOk(router.isOverdue(view(sequence), 988 - 1.1 * ms, work));
      t.ok(router.isOverdue(view(sequence), 988 - 0.9 * ms, work));
    }
  },
);

void t.test('rejected requests take no time: a flood of rejections leaves plans unchanged', async (t) => {
  const router = new Router(shape, table, defaultPolicy);
  const asking = (id: string, totalMs: number, onMiss: OnMiss, arrivedAt: number): Sequence => {
    const prompt = Array.from({ length: 1000 }, (_, i) => i);
    const budget = { totalMs, ttftMs: null, tpotMs: null, onMiss };
    const { request } = decoding(id, totalMs);
    return new Sequence({ ...request, arrivedAt, prompt, depth: { ...request.depth, budget } }, 4);
  };
  const [before] = router.admit([view(asking('before', 2000, 'reject', 0))], idleAt(0));
  t.match(before, { kind: 'admit', exit: 30, serviceClass: 'guaranteed' });
  for (let i = 0; i < 40; i++) {
    const [hopeless] = router.admit([view(asking(`r${i}`, 16, 'reject', 100 * i))], idleAt(100 * i));
    t.match(hopeless, { kind: 'reject' });
  }
  const [after] = router.admit([view(asking('after', 2000, 'reject', 4000))], idleAt(4000));
  t.match(after, { kind: 'admit', exit: 30, serviceClass: 'guaranteed' });
});

void t.test('a budget that a stored prefix makes feasible is not rejected', async (t) => {
  const prompt = Array.from({ length: 3000 }, (_, i) => i);
  const { request } = decoding('turn', 250, 'reject');
  const sequence = new Sequence({ ...request, prompt, maxTokens: 20 }, 4);
  // A router that rejects a request reserves the budget that it names.
  const admit = () => new Router(shape, table, defaultPolicy).admit([view(sequence)], idleAt(0))[0];
  t.match(admit(), { kind: 'reject' });
  const slot = new Slot(0, shape.stages.length + shape.exits.length);
  slot.tokens = prompt;
  for (let unit = 0; unit < slot.frontiers.length; unit++) slot.reach(unit, 2900);
  sequence.prefix = { slot, tokens: prompt, length: 2900 };
  t.match(admit(), { kind: 'admit', serviceClass: 'guaranteed' });
});
