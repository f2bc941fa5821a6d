/** Speculation of a looped model: fewer loops draft, all loops verify, and the answer stays that of all loops. */
import t from 'tap';
import type { DraftCount } from '../../src/protocol/index.js';
import { draftAt, draftByGate } from '../../src/engine/speculation/exit-draft.js';
import type { Answer } from '../../src/engine/answer.js';
import { draftExits } from '../../src/engine/scheduler/drafts/drafts.js';
import type { Slot } from '../../src/engine/scheduler/kv/slot.js';
import {
  advance,
  advanceTo,
  argmax,
  drain,
  greedy,
  logitsAt,
  makeCore,
  makeExecutor,
  openSlot,
  PROMPTS,
} from '../engine/helper.js';
import { answerOf } from '../engine/answers.js';
import { LOOPS, loopedModel } from './looped-model.js';

const executor = await makeExecutor(t, { modelDir: await loopedModel(t.testdir(), 2) });
const [start = []] = PROMPTS;

t.afterEach(() => {
  executor.forget(0);
});

/** A sequence of all loops that lacks its last position only. */
function prefilled(): { readonly answer: Answer; readonly slot: Slot } {
  const answer = answerOf(greedy('a', start, LOOPS, 8), executor.units.exits);
  const { sequence } = answer;
  const slot = openSlot(executor, []);
  slot.tokens = sequence.tokens;
  sequence.slot = slot;
  advanceTo(executor, slot, LOOPS - 1, start.length - 1);
  return { answer, slot };
}

void t.test('one to three loops may draft for four, and leave their states for the verification', async (t) => {
  const { answer, slot } = prefilled();
  t.strictSame(draftExits(answer.sequence, executor.units.exits, executor.model.limits.maxChunk), [0, 1, 2]);
  const drafts = [0, 1, 2].map((exit) => {
    const draft = draftAt(executor, answer, exit, 4);
    t.strictSame([answer.sequence.tokens, answer.tokens], [start, start], 'the answer has its old tokens');
    t.equal(slot.frontier(LOOPS - 1), start.length - 1);
    if (draft.length > 0) t.ok(slot.frontier(exit) >= start.length, 'the loops of the draft are ahead');
    slot.truncate(start.length - 1);
    return draft;
  });
  const hasDraft = drafts.some((draft) => draft.length > 0);
  t.ok(hasDraft, `drafted ${drafts.map((draft) => draft.length).join(', ')}`);
});

/** Runs a loop up to a position. @returns the first values of its states behind the prompt */
function firstValues(slot: Slot, loop: number, end: number): number[] {
  const states = advance(executor, slot, loop, end);
  return [0, 1, 2].map((ahead) => states?.read(start.length - 1 + ahead)?.[0] ?? NaN);
}

void t.test('the gate drafts each token at the first loop whose cumulated probability is high', async (t) => {
  const { answer, slot } = prefilled();
  const read: number[] = [];
  // The probability to stop at each state that is read: at loop 1; at loops 1 and 2 together; at none.
  const stops = [0.8, 0.5, 0.5, 0.1, 0.1, 0.1];
  const gate = {
    stop: (state: Float32Array) => {
      read.push(state[0] ?? NaN);
      return stops[read.length - 1] ?? NaN;
    },
  };
  const draft = draftByGate(executor, answer, gate, 8);
  t.strictSame([answer.sequence.tokens, answer.tokens], [start, start], 'the answer has its old tokens');
  t.equal(slot.frontier(LOOPS - 1), start.length - 1, 'the last loop has not run');
  const found = [0, 1, 2].map((loop) => slot.frontier(loop));
  t.strictSame(found, [start.length + 2, start.length + 2, start.length + 2]);
  slot.truncate(start.length - 1);
  const expected = [0, 1].map((loop) => {
    const token = argmax(logitsAt(executor, slot, loop));
    slot.tokens.push(token);
    return token;
  });
  t.strictSame(draft, expected, 'loop 1 and loop 2 have drafted');
  slot.truncate(start.length - 1);
  const states = [0, 1, 2].map((loop) => firstValues(slot, loop, start.length + 2));
  /** Loop and place of each state. */
  const places = [
    [0, 0],
    [0, 1],
    [1, 1],
    [0, 2],
    [1, 2],
    [2, 2],
  ] as const;
  t.equal(read.length, places.length);
  for (const [i, [loop, ahead]] of places.entries())
    t.ok(Math.abs((read[i] ?? NaN) - (states[loop]?.[ahead] ?? NaN)) < 1e-3, `loop ${loop + 1}, token ${ahead}`);
});

void t.test('a draft by the gate ends with the answer, and is empty where the gate never stops', async (t) => {
  const { answer, slot } = prefilled();
  t.strictSame(draftByGate(executor, answer, { stop: () => 0 }, 4), []);
  slot.truncate(start.length - 1);
  t.equal(draftByGate(executor, answer, { stop: () => 1 }, 4).length, 4);
  slot.truncate(start.length - 1);
  t.equal(draftByGate(executor, answer, { stop: () => 1 }, 4, ({ length }) => length === 2).length, 2);
});

void t.test('drafted answers equal the plain ones', async (t) => {
  let rounds = 0;
  for (const [index, prompt] of PROMPTS.entries()) {
    const answers = (['off', 'all'] as const).map((speculate) => {
      const core = makeCore(executor, { speculate, prefixReuse: false });
      const drafts: DraftCount[] = [];
      core.submit(greedy(`${index}`, prompt, LOOPS, 48));
      const answer = drain(core, ({ work }) => {
        if (work?.draft) drafts.push(work.draft);
      }).get(`${index}`);
      executor.forget(0);
      return { tokens: answer?.tokens, drafts };
    });
    const [plain, drafted] = answers;
    t.equal(plain?.tokens?.length, 48);
    t.strictSame(drafted?.tokens, plain?.tokens, `prompt ${index}`);
    t.equal(plain?.drafts.length, 0);
    rounds += drafted?.drafts.length ?? 0;
  }
  t.ok(rounds > 0, `${rounds} rounds had a draft`);
});
