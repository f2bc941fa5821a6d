/** Answers that end at their deadlines, and requests on their way. */
import t from 'tap';
import { type Work, predictMs } from '../../src/engine/scheduler/cost/model.js';
import { cutAt } from '../../src/protocol/outcome.js';
import type { OnMiss } from '../../src/protocol/index.js';
import { workTo } from '../../src/engine/scheduler/chunks.js';
import { Planner } from '../../src/engine/scheduler/planner.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import { unitsOfShape } from '../simulator/machine.js';
import { type Given, asking, prompting, stateOf } from './fixtures.js';
import { blockLayers, blockShape, blockTable, shape, table } from './sample.js';

const given: Given = { arrivedAt: 0, promptLength: 3, maxTokens: 100 };
const decoding = (totalMs: number, onMiss: OnMiss): Sequence =>
  prompting('a', { totalMs, ttftMs: null, tpotMs: null, onMiss }, { ...given, generated: 1, firstTokenAt: 10 });

const decode = { rows: [0, 0, 0, 0, 1], context: 100 };

const plannerOf = (): Planner => new Planner(shape, table, defaultPolicy);
const isOverdue = (planner: Planner, sequence: Sequence, now: number, work: Work): boolean =>
  cutAt(sequence) < planner.endsAt(now, work);
const idleAt = (now: number) => stateOf({ now, slots: 64 });

void t.test('the catch-up of an exit block counts as one piece, as it runs', async (t) => {
  const planner = new Planner(blockShape, blockTable, defaultPolicy);
  const budget = { totalMs: 1000, ttftMs: null, tpotMs: null, onMiss: 'truncate' as const };
  const frontier = [...blockLayers.map(() => 128), 0, 0, 0, 0];
  const sequence = prompting('a', budget, { ...given, promptLength: 129, exit: 8, frontier }, unitsOfShape(blockShape));
  const prefill = workTo(sequence, 128, planner.model);
  const piece = { exit: 0, positions: 128, context: 0, chunk: 128, from: 1 };
  t.strictSame(prefill, [piece]);
  const decode = { rows: [1, 0, 0, 0, 0], context: 129 };
  const ms = predictMs(planner.model, { decode, prefill: [piece] });
  t.notOk(isOverdue(planner, sequence, 988 - 1.1 * ms, { decode, prefill }), 'the step ends in time');
});

void t.test(
  'truncate predicts an ordinary step even if some are slow; the gateway ends those at the deadline',
  async (t) => {
    const planner = plannerOf();
    const begun = decoding(1000, 'truncate');
    const fresh = asking('fresh', begun.budget, given);
    const work = { decode, prefill: [] };
    for (let i = 0; i < 64; i++)
      planner.observeStep(work, { cycleMs: planner.predictMs(work) * (i % 8 === 0 ? 8 : 1), planningMs: 0 });
    const ms = planner.predictMs(work);
    for (const sequence of [begun, fresh]) {
      t.notOk(isOverdue(planner, sequence, 988 - 1.1 * ms, work));
      t.ok(isOverdue(planner, sequence, 988 - 0.9 * ms, work));
    }
  },
);

void t.test('a request that waits beyond the time for a sentence is hopeless, unless it has a token', async (t) => {
  const planner = plannerOf();
  const budget = { totalMs: 1000, ttftMs: null, tpotMs: null, onMiss: 'land' as const };
  const ask = asking('a', budget, { ...given, isExactLength: false });
  const isHopeless = (now: number, sequence = ask): boolean =>
    planner.serviceOrder(stateOf({ now, waiting: [sequence] })).hopeless.includes(sequence);
  t.notOk(isHopeless(500));
  t.ok(isHopeless(980));
  t.notOk(isHopeless(980, asking('a', { ...budget, onMiss: 'truncate' }, { ...given, isExactLength: false })));
  t.notOk(isHopeless(980, decoding(1000, 'land')));
});

/** A request for 100 tokens behind 1,000, which begins when it arrives. */
const rejectable = (id: string, totalMs: number, arrivedAt: number): Sequence =>
  asking(id, { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' }, { ...given, arrivedAt, promptLength: 1000 });

void t.test('rejected requests take no time: a flood of rejections leaves plans unchanged', async (t) => {
  const planner = plannerOf();
  const [before] = planner.admit([rejectable('before', 2000, 0)], idleAt(0));
  t.match(before, { kind: 'admit', exit: 30, serviceClass: 'guaranteed' });
  for (let i = 0; i < 40; i++) {
    const [hopeless] = planner.admit([rejectable(`r${i}`, 16, 100 * i)], idleAt(100 * i));
    t.match(hopeless, { kind: 'reject' });
  }
  const [after] = planner.admit([rejectable('after', 2000, 4000)], idleAt(4000));
  t.match(after, { kind: 'admit', exit: 30, serviceClass: 'guaranteed' });
});

void t.test('a budget that a stored prefix makes feasible is not rejected', async (t) => {
  const budget = { totalMs: 250, ttftMs: null, tpotMs: null, onMiss: 'reject' as const };
  const admit = (more: Given) => {
    // A planner that rejects a request holds the budget that it names.
    const asked = asking('turn', budget, { ...given, promptLength: 3000, maxTokens: 20, ...more });
    return plannerOf().admit([asked], idleAt(0))[0];
  };
  t.match(admit({}), { kind: 'reject' });
  const frontier = shape.stages.map(() => 2900);
  t.match(admit({ frontier }), { kind: 'admit', serviceClass: 'guaranteed' });
});
