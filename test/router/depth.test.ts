/** Where depth goes: to exits that buy most for their time, to answers that make most of it, and with a reserve. */
import t from 'tap';
import {
  type DepthShape,
  type RouterState,
  type SequenceState,
  chooseChunk,
  noDemand,
  nothingLearned,
  observeArrival,
  planAsIs,
  replan,
} from '../../src/router/planner.js';
import { rungsOf } from '../../src/router/ladder.js';
import { priceOf, worthOf } from '../../src/router/worth.js';
import { exactPolicy } from './arbitrary.js';
import { layers, sample } from './sample.js';

const levels = { row: Float64Array.of(1, 2, 3, 4, 5), fixed: new Float64Array(5) };
const shapeOf = (quality: number[]): DepthShape => ({
  stages: [],
  exits: quality.map((each, stage) => ({ layer: layers[stage] ?? 0, stage, block: null, quality: each })),
});

void t.test('the ladder leaves out exits that a mix of their neighbours beats', async (t) => {
  t.same(
    rungsOf(shapeOf([0.1, 0.4, 0.6, 0.7, 0.75]), levels, 0, 4),
    [1, 2, 3, 4],
    'each buys less than the one before',
  );
  t.same(rungsOf(shapeOf([0.1, 0.15, 0.2, 0.6, 0.9]), levels, 0, 4), [4], 'the last one buys most');
  t.same(rungsOf(shapeOf([0.1, 0.15, 0.2, 0.6, 0.9]), levels, 0, 2), [2], 'up to the deepest that may be');
  t.same(rungsOf(shapeOf([0.1, 0.5, 0.4, 0.4, 0.6]), levels, 0, 4), [1, 4], 'never an exit that is worse');
  t.same(rungsOf(shapeOf([0.1, 0.2]), levels, 1, 1), []);
});

const state = (live: SequenceState[], learned = nothingLearned): RouterState => {
  return { now: 1000, slots: 16, kvRoom: 1e6, live, waiting: [], learned };
};
const prompt = (id: string, totalMs: number, promised: boolean): SequenceState => ({
  ...{
    id,
    arrivedAt: 990,
    promptLength: 200,
    generated: 0,
    maxTokens: 40,
    minExit: 10,
    maxExit: 30,
    exit: 10,
    promised,
  },
  budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'continue' },
  ...{ frontier: layers.map(() => 0), firstTokenAt: null, lastTokenAt: null, tokensAtExit: 0 },
});

void t.test('a millisecond is worth more in a long answer, and costs something only when time is short', async (t) => {
  const batchAt = (gapMs: number) => {
    let demand = noDemand;
    for (let at = 0; at < 1000; at += gapMs) demand = observeArrival(demand, at, 200, 40, null);
    return planAsIs(state([], { ...nothingLearned, demand }), sample, exactPolicy).batch;
  };
  const idle = batchAt(1000);
  t.ok(worthOf(idle, levels, 0, 4, 40, 30) > worthOf(idle, levels, 0, 4, 2, 30));
  t.equal(priceOf(idle, levels), 0);
  t.ok(priceOf(batchAt(10), levels) > priceOf(batchAt(60), levels));
});

void t.test('a budget that nothing was promised for is served by its deadline, but not before a promise', async (t) => {
  const lost = (live: SequenceState[]): string[] =>
    [...replan(live, state(live), sample, exactPolicy).plan.agenda.lost].map(({ request }) => request.id);
  t.same(lost([prompt('a', 900, true), prompt('b', 900, false)]), [], 'time enough for both');
  const tight = [prompt('a', 170, true), prompt('b', 170, false)];
  t.same(lost(tight), ['b']);
  t.same(lost([prompt('a', 170, false), prompt('b', 170, true)]), ['a']);
});

void t.test('what a caller was told is kept before what plans only hold time for', async (t) => {
  const lost = (live: SequenceState[]): string[] =>
    [...replan(live, state(live), sample, exactPolicy).plan.agenda.lost].map(({ request }) => request.id);
  const held = { ...prompt('held', 170, true), told: false };
  t.same(lost([held, { ...prompt('told', 170, true), promptLength: 210 }]), ['held'], 'though it is the smaller one');
  t.same(lost([held, prompt('open', 170, false)]), ['open']);
});

void t.test('a prompt that was given up goes on after those that can be in time', async (t) => {
  const next = (live: SequenceState[]): string | undefined =>
    chooseChunk(replan(live, state(live), sample, exactPolicy).plan)?.id;
  const sooner = prompt('sooner', 160, false);
  t.equal(next([sooner, prompt('a', 170, true)]), 'a', 'it could be in time alone');
  const late = { ...prompt('late', 500, true), arrivedAt: -10_000 };
  t.equal(next([late, prompt('a', 170, true)]), 'a', 'its turn by the share of those that are late has long come');
  t.equal(next([late]), 'late', 'where nobody else waits, it goes on');
});

/** Decodes at the shallowest exit. */
const answer = (id: string, totalMs: number, tokensAtExit: number): SequenceState => ({
  ...{ ...prompt(id, totalMs, true), generated: 5, firstTokenAt: 995, lastTokenAt: 1000, tokensAtExit },
  frontier: layers.map((layer) => (layer === 10 ? 204 : 0)),
});
const exitsOf = (...live: SequenceState[]) => replan(live, state(live), sample, exactPolicy).exits;

void t.test('an answer goes deeper only after some tokens at its exit', async (t) => {
  const { dwellTokens } = exactPolicy;
  t.strictSame(exitsOf(answer('a', 60_000, dwellTokens - 1)), []);
  t.strictSame(exitsOf(answer('a', 60_000, dwellTokens)), [{ id: 'a', exit: 30 }]);
});

void t.test('no catch-up is begun in front of somebody who has no time for it', async (t) => {
  const nearly = (totalMs: number): SequenceState => ({ ...answer('nearly', totalMs, 30), maxExit: 10, maxTokens: 8 });
  const loose = answer('loose', 60_000, 30);
  t.strictSame(exitsOf(nearly(2_000), loose), [{ id: 'loose', exit: 30 }]);
  t.strictSame(exitsOf(nearly(220), loose), []);
});
