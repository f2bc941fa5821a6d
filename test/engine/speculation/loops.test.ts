/** Speculation of a looped model: the gate drafts, all loops verify, and the answer stays that of all loops. */
import t from 'tap';
import { draftByGate } from '../../../src/engine/speculation/speculative-step.js';
import type { Slot } from '../../../src/engine/scheduler/kv/units.js';
import { goldenLoops } from '../../convert/golden-model.js';
import { advance, answerTo, argmax, draftable, greedy, logitsAt, makeCore, makeExecutor, openSlot } from '../helper.js';
import { loopedModel } from '../tiny-model.js';

const LOOPS = 4;
const executor = await makeExecutor(t, { modelDir: await loopedModel(t) });
const { prompts } = goldenLoops('ouro-4');
const [{ ids: start } = { ids: [] }] = prompts;

t.afterEach(() => {
  executor.forget(0);
});

/** A sequence of all loops that lacks its last position only. */
const prefilled = () => draftable(executor, LOOPS - 1, start);

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
  const places = [0, 1, 2].flatMap((ahead) => [0, 1, 2].slice(0, ahead + 1).map((loop) => ({ loop, ahead })));
  t.equal(read.length, places.length);
  for (const [i, { loop, ahead }] of places.entries())
    t.ok(Math.abs((read[i] ?? NaN) - (states[loop]?.[ahead] ?? NaN)) < 1e-3, `loop ${loop + 1}, token ${ahead}`);
});

void t.test('drafted answers equal the plain ones', async (t) => {
  let rounds = 0;
  for (const { ids } of prompts) {
    const [plain, drafted] = (['off', 'all'] as const).map((speculate) => {
      const core = makeCore(executor, { speculate, prefixReuse: false });
      const { tokens } = answerTo(core, greedy('a', ids.slice(0, 40), LOOPS, 48), ({ work }) => {
        if (work?.draft && t.equal(speculate, 'all')) rounds++;
      });
      executor.forget(0);
      return tokens;
    });
    t.equal(plain?.length, 48);
    t.strictSame(drafted, plain);
  }
  t.ok(rounds > 0, `${rounds} rounds had a draft`);
});

void t.test('probabilities of the gate at every loop equal those of the public code', async (t) => {
  const { gate } = executor.model;
  for (const { ids, positions } of prompts) {
    const slot = openSlot(executor, ids);
    for (let loop = 0; loop < LOOPS; loop++) {
      const states = advance(executor, slot, loop, ids.length);
      for (const { at, loops } of positions) {
        const state = states?.read(at);
        const stop = state == null ? NaN : (gate?.stop(state) ?? NaN);
        const expected = 1 / (1 + Math.exp(-(loops[loop]?.gate ?? NaN)));
        t.ok(Math.abs(stop - expected) < 1e-4, `position ${at}, loop ${loop + 1}: ${stop}, ${expected}`);
      }
    }
    executor.table.drop(slot);
  }
});
