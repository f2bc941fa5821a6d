/** Selection of chunks, on slots of two stages whose positions take a millisecond each. */
import t from 'tap';
import { type CostModel, costModel } from '../../src/engine/scheduler/cost/model.js';
import { chunkOf, fitting } from '../../src/engine/scheduler/chunks.js';
import { Slot, unitsOf } from '../../src/engine/scheduler/kv/units.js';
import { Sequence } from '../../src/engine/scheduler/sequence.js';
import { greedy } from '../../bench/greedy-request.js';

const { exits } = unitsOf({
  stages: [0, 1].map((boundary) => ({ entry: { layers: 1, boundary } })),
  exits: [0, 1].map((stage) => ({ entry: { layer: stage + 1, stage, norm: 0 }, block: null })),
});
const points = (ms: number) => [
  { rows: 1, context: 0, ms },
  { rows: 100, context: 0, ms: 100 * ms },
];
/** The second stage alone takes time. */
const model: CostModel = costModel(
  {
    units: ['a', 'b'].map((unit, stage) => {
      return { unit, kernel: 'fake', decode: points(stage), prefill: points(stage) };
    }),
  },
  {
    stages: ['a', 'b'],
    exits: [0, 1].map((stage) => ({ layer: stage + 1, stage, block: null, accuracy: 1 })),
  },
);

/** A sequence of 40 tokens whose stages have processed these positions. */
function sequence(id: string, frontiers: readonly [number, number], layer = 2): Sequence {
  const made = new Sequence(greedy(id, new Array<number>(40).fill(1), layer, 9), exits);
  made.slot = new Slot(0, 2);
  frontiers.forEach((end, unit) => made.slot?.reach(unit, end));
  return made;
}

void t.test('a chunk ends at the positions that the exit needs, and leaves no single position', async (t) => {
  const end = (most: number, done: [number, number]): number => chunkOf(sequence('a', done), most, model).end;
  t.same([end(8, [39, 10]), end(128, [39, 10]), end(28, [39, 10])], [18, 39, 37]);
  t.equal(end(8, [0, 0]), 8);
});

void t.test('a step takes the first chunks that fit into one run, and one at least', async (t) => {
  const chunks = [10, 8, 20, 1].map((length) => chunkOf(sequence('a', [39 - length, 0], 1), 99, model));
  const taken = (mostPrefill: number): number[] => fitting(chunks, mostPrefill).map(({ positions }) => positions);
  t.same(taken(Infinity), [10, 8, 20, 1]);
  t.same(taken(18), [10, 8]);
  t.same(taken(37), [10, 8], 'a chunk that fits does not overtake one that does not');
  t.same(taken(4), [10]);
});
