/** Steps in which nothing is to decide: which they are, and that they change no token. */
import t from 'tap';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { Planner } from '../../../src/engine/scheduler/planner.js';
import { drain, greedy, makeCore, makeExecutor } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

// eslint-disable-next-line @typescript-eslint/unbound-method -- called with the instance
const { decide, pass } = Planner.prototype;

void t.test('the scheduler plans the steps in which something is to decide', async (t) => {
  const options = { modelDir: await tinyModel(t, 'float'), maxRunning: 2, kvMemoryBytes: 2 ** 26, prefixReuse: false };
  const executor = await makeExecutor(t, options);
  const exit = executor.units.exits[0]?.layer ?? 0;
  const planned = t.capture(Planner.prototype, 'decide', function (this: Planner, state) {
    return decide.call(this, state);
  });
  const passed = t.capture(Planner.prototype, 'pass', function (this: Planner, now) {
    pass.call(this, now);
  });
  const run = (requests: readonly SequenceRequest[]): { plans: number; passes: number; tokens: number[][] } => {
    const core = makeCore(executor, options, () => 0);
    for (const request of requests) core.submit(request);
    const answers = drain(core);
    const tokens = requests.map(({ id }) => answers.get(id)?.tokens ?? []);
    return { plans: planned().length, passes: passed().length, tokens };
  };
  const request = greedy('a', [3, 10, 30], exit, 12, { arrivedAt: 0 });

  const free = run([request]);
  t.match(free, { plans: 1, passes: 11 }, 'the first step admits and prefills; no other one has a plan');
  const budget = { totalMs: 600_000, ttftMs: null, tpotMs: null, onMiss: 'continue' } as const;
  const bound = run([{ ...request, depth: { ...request.depth, budget } }]);
  t.match(bound, { plans: 12, passes: 0, tokens: free.tokens }, 'a budget');
  const queued = run(['a', 'b', 'c'].map((id) => ({ ...request, id })));
  t.strictSame(queued.tokens, [...free.tokens, ...free.tokens, ...free.tokens]);
  t.match(queued, { plans: 13, passes: 11 }, 'a request that waits for a slot');
});
