/** The predicted wait of a request that would arrive now. */
import t from 'tap';
import { predictMs } from '../../src/engine/scheduler/cost/model.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { answering, asking, prompting, plannerOf, stateOf, total } from './fixtures.js';
import { layers, sample } from './sample.js';

const planner = plannerOf();
const wait = (parts: Parameters<typeof stateOf>[0]): number => planner.predictedWaitMs(stateOf(parts));

void t.test('an idle server has no wait; a running answer is waited for by one step, at the depth that it has', (t) => {
  t.equal(wait({}), 0);
  for (const [i, exit] of layers.entries()) {
    const rows = layers.map((_, at) => Number(at === 0) + Number(at === i));
    const step = predictMs(sample, { decode: { rows, context: 240 }, prefill: [] });
    const one = wait({ live: [answering('a', null, { exit })] });
    t.ok(
      Math.abs(one / step / (1 + defaultPolicy.margin) - 1) < 0.05,
      `exit ${exit}: ${one} ms for a step of ${step} ms`,
    );
  }
  t.end();
});

void t.test('prompts are waited for in full, and answers ahead by their turns of the slots', (t) => {
  const one = wait({ live: [prompting('a', null)] });
  const two = wait({ live: [prompting('a', null), prompting('b', total(5000))] });
  t.ok(two > 1.8 * one, `${two} ms for two prompts, ${one} for one`);
  const deep = wait({ live: [prompting('a', null, { minExit: 30 })] });
  t.ok(deep > 2 * one, 'a prompt that may not get shallower is waited for at its depth');
  const live = [answering('a', null), answering('b', null)];
  const free = wait({ slots: 4, live });
  const full = wait({ slots: 2, live });
  t.ok(full > 10 * free, 'no slot is free');
  const waiting = ['c', 'd', 'e', 'f'].map((id) => asking(id, null));
  t.ok(wait({ slots: 2, live, waiting }) > 2 * full, 'others come first');
  t.end();
});

void t.test('a slower machine has a longer wait', (t) => {
  const live = [prompting('a', null), answering('b', null)];
  const slow = plannerOf({}, undefined, 2).predictedWaitMs(stateOf({ live }));
  t.ok(Math.abs(slow / wait({ live }) - 2) < 0.01);
  t.end();
});
