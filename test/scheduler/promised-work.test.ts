/** The engine time in the rejection of a dry run: promises that are added up by it are kept together. */
import t from 'tap';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Admission } from '../../src/engine/scheduler/types.js';
import { admission, asking, changed, natural, plannerOf, stateOf, total } from './fixtures.js';

const COUNT = 16;
const dry = asking('dry', total(1, 'reject'), { ...natural, isDryRun: true });

const rejected = (answer: Admission | undefined) => {
  if (answer?.kind !== 'reject') throw new Error('no request is answered within a millisecond');
  return { leastMs: answer.leastFeasibleMs ?? NaN, ...answer.promised };
};

void t.test('a dry run names the engine time of its promise', async (t) => {
  const { leastMs, fullMs = NaN, besideMs = NaN } = rejected(admission(plannerOf(), dry));
  t.ok(fullMs > 0 && fullMs < leastMs, `${fullMs} ms of a full batch, ${leastMs} ms alone`);
  t.ok(besideMs > 0 && besideMs < leastMs);
  t.notOk('fullMs' in rejected(admission(plannerOf(), changed(dry, { isDryRun: false }))), 'no other request does');
});

void t.test('promises at once take no longer than the sum of their times', async (t) => {
  const { leastMs, fullMs = NaN, besideMs = NaN } = rejected(admission(plannerOf(), dry));
  const all = Array.from({ length: COUNT }, (_, i) => changed(dry, { id: `n${i}` }));
  const [first] = plannerOf().admit(all, stateOf({ slots: COUNT }));
  // A named budget has room for a retry, which counts once.
  const together = rejected(first).leastMs / (1 + defaultPolicy.retryRoom);
  const sum = leastMs + (COUNT - 1) * (fullMs + besideMs);
  t.ok(together > leastMs && together <= sum, `${together} ms together, ${leastMs} ms alone, at most ${sum} ms`);
});
