/** Thoughts at a shallower exit than the answer behind them. */
import t from 'tap';
import { AfterThoughts, FREE_TEXT } from '../../../src/engine/grammar/after-thoughts.js';
import type { SequenceRequest, ThoughtTokens } from '../../../src/protocol/index.js';
import { auditsOf, drain, greedy, makeCore, makeExecutor } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float') });
const [shallow = 0, deep = 0] = executor.model.manifest.exits.map(({ layer }) => layer);
const PROMPT = [5, 9, 31, 77, 12, 40, 8, 55, 21, 3];
const [OPEN, CLOSE] = [60, 61];
const TAGS: ThoughtTokens = { open: OPEN, close: CLOSE, blanks: [], isOpen: true, most: 6, exit: shallow };

t.afterEach(() => {
  executor.forget(0);
});

/** A request for 12 tokens at all depths, and the exits of its tokens. */
function answer(thoughts: ThoughtTokens, more: Partial<SequenceRequest> = {}, prompt = PROMPT) {
  const depth = { minExit: shallow, maxExit: deep, budget: null };
  const request = greedy('a', prompt, deep, 12, { depth, grammar: { kind: 'free', thoughts }, ...more });
  const core = makeCore(executor);
  core.submit(request, new AfterThoughts(FREE_TEXT, thoughts));
  let planned: number | undefined;
  const { events = [], tokens = [] } =
    drain(core, (step) => {
      planned ??= step.planned[0]?.exit;
    }).get('a') ?? {};
  return { tokens, exits: events.map(({ exit }) => exit), planned };
}

/** The tokens that full depth writes behind these. */
function continued(tokens: readonly number[], count: number): number[] {
  const core = makeCore(executor, { prefixReuse: false });
  core.submit(greedy('b', tokens, deep, count));
  return drain(core).get('b')?.tokens ?? [];
}

void t.test('thoughts run at their exit, and the answer behind them is that of full depth', async (t) => {
  for (const budget of [null, { totalMs: 60_000, ttftMs: null, tpotMs: null, onMiss: 'continue' as const }]) {
    const { tokens, exits, planned } = answer(TAGS, { depth: { minExit: shallow, maxExit: deep, budget } });
    t.equal(planned, shallow);
    t.equal(tokens[6], CLOSE, 'the bound closes the thoughts');
    t.same(exits, [...new Array<number>(7).fill(shallow), ...new Array<number>(5).fill(deep)]);
    executor.forget(0);
    t.same(tokens.slice(7), continued([...PROMPT, ...tokens.slice(0, 7)], 5));
    executor.forget(0);
  }
});

void t.test('an answer that opens its own thoughts begins and ends at full depth', async (t) => {
  const sampling = { ...greedy('x', [], 0, 0).sampling, logitBias: [[OPEN, 100] as const] };
  const { tokens, exits } = answer({ ...TAGS, isOpen: false, most: 3 }, { sampling });
  t.same([tokens[0], tokens[4]], [OPEN, CLOSE]);
  t.same(exits, [deep, ...new Array<number>(4).fill(shallow), ...new Array<number>(7).fill(deep)]);
});

void t.test('an answer without thoughts, and thoughts without a bound, stay at full depth', async (t) => {
  const { exit, ...unbounded } = TAGS;
  t.equal(exit, shallow);
  t.same(new Set(answer(unbounded).exits), new Set([deep]));
  executor.forget(0);
  t.same(new Set(answer({ ...TAGS, isOpen: false }).exits), new Set([deep]));
});

void t.test('audits compare thoughts with full depth, unless masks bound them', async (t) => {
  const depth = { minExit: shallow, maxExit: deep, budget: null };
  for (const [most, skip] of [
    [null, null],
    [6, 'schema'],
  ] as const) {
    const thoughts = { ...TAGS, most };
    const core = makeCore(executor, { audit: { busyShare: 0 } });
    core.submit(
      greedy('a', PROMPT, deep, 12, { depth, audit: true, grammar: { kind: 'free', thoughts } }),
      new AfterThoughts(FREE_TEXT, thoughts),
    );
    drain(core);
    const [audit] = await auditsOf(core);
    t.equal(audit?.skipped, skip);
    t.equal(audit?.tokens.length, skip === null ? 12 : 0);
    executor.forget(0);
  }
});

void t.test('a preempted thought goes on at its exit', async (t) => {
  const positions = PROMPT.length + 16;
  const core = makeCore(executor, { kvMemoryBytes: executor.model.bytesPerPosition * positions, prefixReuse: false });
  const long = { ...TAGS, most: 9 };
  const depth = { minExit: shallow, maxExit: deep, budget: null };
  core.submit(greedy('old', PROMPT, deep, 14));
  const young = greedy('young', PROMPT.toReversed(), deep, 14, { depth, grammar: { kind: 'free', thoughts: long } });
  core.submit({ ...young, arrivedAt: young.arrivedAt + 1 }, new AfterThoughts(FREE_TEXT, long));
  const { events = [], ended } = drain(core).get('young') ?? {};
  t.ok((ended?.preemptions ?? 0) > 0);
  t.same(
    events.map(({ exit }) => exit),
    [...new Array<number>(10).fill(shallow), ...new Array<number>(4).fill(deep)],
  );
});
