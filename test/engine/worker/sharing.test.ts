/** Prompts that share a prefix and arrive together are computed once; test/scheduler/slot-manager has the rules. */
import t from 'tap';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { answersTo, flatCosts, greedy, makeCore, makeExecutor } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float') });
const deepest = executor.units.exits.at(-1)?.layer ?? 0;
const SHARED = Array.from({ length: 64 }, (_, i) => 3 + ((i * 7) % 20));

const ask = (id: string, rest: readonly number[] = [], overrides: Partial<SequenceRequest> = {}): SequenceRequest =>
  greedy(id, [...SHARED, ...rest], deepest, 6, { arrivedAt: 0, ...overrides });

/** Requests that arrive within one step, on a clock that stands still. @param cancelled behind the second step */
function run(requests: readonly SequenceRequest[], limits: Partial<EngineOptions> = {}, cancelled?: string) {
  const options = { maxRunning: 8, maxQueue: 8, prefillChunk: 16, ...limits };
  const core = makeCore(executor, options, () => 0, undefined, { costs: flatCosts(executor, () => 1) });
  let [steps, prefilled] = [0, 0];
  const answers = answersTo(core, requests, ({ work }) => {
    prefilled += work?.prefillTokens ?? 0;
    if (++steps === 2 && cancelled !== undefined) core.cancel(cancelled);
  });
  executor.forget(0);
  const tokensOf = ({ id }: SequenceRequest): readonly number[] | undefined => answers.get(id)?.tokens;
  return { prefilled, tokensOf, cached: requests.map(({ id }) => answers.get(id)?.ended?.cachedTokens) };
}

const three = ['a', 'b', 'c'].map((id) => ask(id));
const common = [30, 31, 32].map((token) => ask(`r${token}`, [token, token, 4, 5]));

for (const [name, requests, limits, cancelled, prefilled, cached] of [
  ['equal prompts, but for the last position, which is decoded', three, {}, undefined, 63, [0, 63, 63]],
  ['a common prefix', common, {}, undefined, 64 + 3 * 3, [0, 64, 64]],
  ['with one slot, that of the previous one', three, { maxRunning: 1 }, undefined, 63, [0, 63, 63]],
  ['a cancelled leader leaves its progress', three, {}, 'a', 63, [0, 32, 63]],
] as const)
  void t.test(`${name}: computed once, and each answer equals its answer alone`, (t) => {
    const found = run(requests, limits, cancelled);
    t.strictSame([found.prefilled, found.cached], [prefilled, cached]);
    for (const request of requests.filter(({ id }) => id !== cancelled))
      t.strictSame(found.tokensOf(request), run([request], { prefixReuse: false }).tokensOf(request));
    t.end();
  });

void t.test('without prefix reuse, each prompt is computed; a scored prompt shares only as a source', async (t) => {
  t.equal(run(three, { prefixReuse: false }).prefilled, 3 * 63);
  t.equal(run([ask('a'), ask('b', [], { promptLogprobs: 0 })]).prefilled, 126);
  t.equal(run([ask('a', [], { promptLogprobs: 0 }), ask('b')]).prefilled, 63);
});
