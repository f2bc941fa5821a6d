/** Prompts that share a prefix and arrive together are computed once, whatever happens to the first one. */
import t from 'tap';
import type { EngineCore } from '../../../src/engine/worker/core.js';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { type Answer, answersTo, answerTo, flatCosts, greedy, makeCore, makeExecutor } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float') });
const { units } = executor;
const deepest = units.exits.at(-1)?.layer ?? 0;

t.afterEach(() => {
  executor.forget(0);
});

/** A position costs a millisecond in each stage, for decode and prefill. The clock stands still. */
function coreOf(limits: Partial<EngineOptions> = {}): EngineCore {
  const options = { maxRunning: 8, maxQueue: 8, prefillChunk: 16, ...limits };
  return makeCore(executor, options, () => 0, undefined, { costs: flatCosts(executor, () => 1) });
}

const SHARED = Array.from({ length: 64 }, (_, i) => 3 + ((i * 7) % 20));

const ask = (id: string, rest: readonly number[] = [], overrides: Partial<SequenceRequest> = {}): SequenceRequest =>
  greedy(id, [...SHARED, ...rest], deepest, 6, { arrivedAt: 0, ...overrides });

function alone(request: SequenceRequest): number[] {
  const { tokens } = answerTo(coreOf({ prefixReuse: false }), request);
  executor.forget(0);
  return tokens;
}

interface Course {
  readonly answers: ReadonlyMap<string, Answer>;
  readonly prefilled: number;
  readonly caughtUp: number;
}

/** Outcome of requests that arrive within one step. @param each called with the number of each step */
function run(
  core: EngineCore,
  requests: readonly SequenceRequest[],
  each: (step: number) => void = () => undefined,
): Course {
  let [steps, prefilled, caughtUp] = [0, 0, 0];
  const answers = answersTo(core, requests, ({ work }) => {
    prefilled += work?.prefillTokens ?? 0;
    caughtUp += work?.catchUpTokens ?? 0;
    each(++steps);
  });
  executor.forget(0);
  return { answers, prefilled, caughtUp };
}

const three = ['a', 'b', 'c'].map((id) => ask(id));

interface Shared {
  readonly requests: readonly SequenceRequest[];
  readonly limits?: Partial<EngineOptions>;
  /** Id of a request that is cancelled behind the second step. */
  readonly cancelled?: string;
  readonly prefilled: number;
  readonly cached: readonly number[];
}

const CASES: Record<string, Shared> = {
  'equal prompts are computed once, but for the last position, which is decoded': {
    requests: [...three, ask('d')],
    ...{ prefilled: 63, cached: [0, 63, 63, 63] },
  },
  'prompts with a common prefix share it': {
    requests: [30, 31, 32].map((token) => ask(`r${token}`, [token, token, 4, 5])),
    ...{ prefilled: 64 + 3 * 3, cached: [0, 64, 64] },
  },
  'with one slot, each sequence takes over the prompt of the previous one': {
    requests: three,
    ...{ limits: { maxRunning: 1 }, prefilled: 63, cached: [0, 63, 63] },
  },
  'a cancelled leader leaves its progress to the others': {
    requests: three,
    ...{ cancelled: 'a', prefilled: 63, cached: [0, 32, 63] },
  },
};

for (const [name, { requests, limits, cancelled, prefilled, cached }] of Object.entries(CASES))
  void t.test(`${name}; each answer equals its answer alone`, async (t) => {
    const core = coreOf(limits);
    const found = run(core, requests, (step) => {
      if (step === 2 && cancelled !== undefined) core.cancel(cancelled);
    });
    t.equal(found.prefilled, prefilled);
    const ended = requests.map(({ id }) => found.answers.get(id)?.ended);
    t.strictSame(
      ended.map((each) => each?.cachedTokens),
      cached,
    );
    for (const request of requests)
      if (request.id === cancelled) t.match(found.answers.get(request.id) ?? {}, { ended: { reason: 'cancelled' } });
      else t.strictSame(found.answers.get(request.id)?.tokens, alone(request));
  });

void t.test('without prefix reuse, each prompt is computed; a scored prompt shares only as a source', async (t) => {
  const pair = [ask('a'), ask('b')];
  t.equal(run(coreOf({ prefixReuse: false }), pair).prefilled, 126);
  t.equal(run(coreOf(), [ask('a'), ask('b', [], { promptLogprobs: 0 })]).prefilled, 126);
  t.equal(run(coreOf(), [ask('a', [], { promptLogprobs: 0 }), ask('b')]).prefilled, 63);
});
