/** The meaning of each part of a budget, and the work that advances a sequence. */
import fc from 'fast-check';
import t from 'tap';
import { predictMs } from '../../src/engine/scheduler/cost/model.js';
import { at } from '../../src/util/at.js';
import type { Budget } from '../../src/protocol/index.js';
import { advanceMs, advanceWork, frontierAt } from '../../src/engine/scheduler/cost/step-costs.js';
import { runs } from './arbitrary.js';
import { type Given, NOW, answering, asking, natural, snapshot, total, unstated } from './fixtures.js';
import { blockLayers, blockSample, sample } from './sample.js';

const isNear = (found: number, expected: number): boolean => Math.abs(found - expected) < 1e-9;

void t.test('deadlines count from arrival, less what a request takes outside the engine', async (t) => {
  const deadlinesOf = (budget: Budget | null) => {
    const waiting = [asking('a', budget, { arrivedAt: NOW })];
    const { firstDue, end, tpotMs } = at(snapshot({ waiting }, { requestOverheadMs: 12 }).requests, 0);
    return { firstDue: firstDue - NOW, end: end - NOW, tpotMs };
  };
  t.same(deadlinesOf({ ...unstated, totalMs: 400, ttftMs: 100, tpotMs: 30 }), { firstDue: 88, end: 388, tpotMs: 30 });
  t.same(deadlinesOf(null), { firstDue: Infinity, end: Infinity, tpotMs: Infinity });
  t.equal(deadlinesOf(total(50)).firstDue, Infinity);
});

void t.test('the chance that an answer ends in time is of answers that got as long as it is', async (t) => {
  const within = (more: Given, steps: number): number =>
    at(snapshot({ live: [answering('a', null, { ...natural, ...more })] }).requests, 0).endsWithin(4, steps);
  t.ok(isNear(within({ generated: 50 }, 50), 1 - 0.5 / 0.75), 'of four answers three are longer than 50 tokens');
  t.equal(within({ generated: 50 }, 0), 0);
  t.equal(within({ generated: 50, maxTokens: 60 }, 10), 1, 'its limit ends it');
  t.ok(within({ generated: 50, maxTokens: 60 }, 9) < 1);
});

const STAGES = blockLayers.length;

void t.test('a frontier is what the unit furthest behind has processed', async (t) => {
  const frontier = [50, 40, 30, 0, 0, 20, 45];
  t.equal(frontierAt(frontier, 0, blockSample), 20, 'the block of the first exit');
  t.equal(frontierAt(frontier, 1, blockSample), 40, 'a stage');
  t.equal(frontierAt(frontier, 2, blockSample), 0, 'a block without an entry');
  t.equal(frontierAt(frontier, 4, blockSample), 0, 'the deepest exit has no block');
  t.equal(frontierAt([], 2, sample), 0);
  t.equal(frontierAt([7, 7, 7], 2, sample), 7);
});

void t.test('a change to a shallower exit runs the catch-up of its block alone', async (t) => {
  const deep = [...blockLayers.map(() => 239), ...blockLayers.map(() => 0)];
  const work = advanceWork(deep, 0, 239, blockSample, 128);
  t.same(
    work.map(({ positions, context, units }) => [positions, context, units]),
    [[239, 0, [5]]],
  );
  t.same(advanceWork(deep, 4, 239, blockSample, 128), [], 'nothing where all units are there');
});

void t.test('stages that are equally far run in one piece, up to the exit', async (t) => {
  const pieces = (...[frontier, exit, upTo]: [number[], number, number]): unknown =>
    advanceWork(frontier, exit, upTo, sample, 128).map(({ positions, context, units }) => [positions, context, units]);
  t.same(pieces([100, 100, 60, 60, 0], 4, 120), [
    [20, 100, [0, 1]],
    [60, 60, [2, 3]],
    [120, 0, [4]],
  ]);
  t.same(pieces([100, 100, 60, 0, 0], 2, 150), [
    [50, 100, [0, 1]],
    [90, 60, [2]],
  ]);
});

void t.test('the prefill of an exit costs what its pieces cost', async () => {
  const positions = fc.array(fc.nat(200), { minLength: 2 * STAGES, maxLength: 2 * STAGES });
  fc.assert(
    fc.property(positions, fc.nat(STAGES - 1), fc.constantFrom(16, 64, 128, 512), (some, exit, chunk) => {
      // At least one position is there: a prompt's very beginning is priced by a table, in whole grains.
      const frontier = some.map((at, unit) => (unit === 0 ? at + 1 : at));
      const prefill = advanceWork(frontier, exit, 199, blockSample, chunk);
      const expected = predictMs(blockSample, { decode: null, prefill });
      return Math.abs(advanceMs(frontier, exit, 199, blockSample, chunk) - expected) <= 1e-9 * expected;
    }),
    runs,
  );
});
