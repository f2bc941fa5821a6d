/** Selection of catch-ups and chunks, on slots of two stages with fake costs. */
import t from 'tap';
import { prefillTask, catchUpTasks, fittingTasks } from '../../../src/scheduler/chunks.js';
import type { Executor } from '../../../src/engine/execution/executor.js';
import type { Router } from '../../../src/scheduler/router.js';
import { Sequence } from '../../../src/scheduler/sequence.js';
import { Slot } from '../../../src/scheduler/kv/slot.js';
import { greedy } from '../../../bench/greedy-request.js';

const exits = [{ needed: [0] }, { needed: [0, 1] }];
const executor = { exit: (index: number) => exits[index] } as unknown as Executor;
/** A position takes a millisecond. */
const router = {
  shape: {
    stages: ['a', 'b'],
    exits: [
      { layer: 1, block: null },
      { layer: 2, block: null },
    ],
  },
  advanceWork: ([, second = 0]: readonly number[], _: number, end: number) => [{ positions: end - second }],
  predictMs: ({ prefill }: { prefill: { positions: number }[] }) =>
    prefill.reduce((sum, { positions }) => sum + positions, 0),
} as unknown as Router;
const costs = { executor, router };

/** A sequence of 40 tokens whose stages have processed these positions. */
function sequence(id: string, frontiers: readonly [number, number], exit = 1): Sequence {
  const made = new Sequence(greedy(id, new Array<number>(40).fill(1), 2, 9), exit);
  made.slot = new Slot(0, 2);
  frontiers.forEach((end, unit) => made.slot?.reach(unit, end));
  return made;
}

const catchUps = (running: readonly Sequence[], chunk: number, stallMs: number): [string, number][] =>
  catchUpTasks(running, costs, chunk, stallMs).map(({ sequence: { id }, end }) => [id, end]);

void t.test('only sequences with a complete prompt and more than one missing position catch up', async (t) => {
  const waits = sequence('waits', [39, 0]);
  waits.slot = null;
  const running = [
    sequence('prompt', [38, 0]),
    sequence('decodes', [39, 39]),
    sequence('decodes shallow', [39, 0], 0),
    waits,
    sequence('behind', [39, 30]),
  ];
  t.same(catchUps(running, 128, 1000), [['behind', 39]]);
});

void t.test('catch-ups share a step within the stall limit; the first always runs', async (t) => {
  const running = ['a', 'b', 'c'].map((id) => sequence(id, [39, 29]));
  const of = (stallMs: number): string[] => catchUps(running, 128, stallMs).map(([id]) => id);
  t.same(of(1000), ['a', 'b', 'c']);
  t.same(of(20), ['a', 'b']);
  t.same(of(19), ['a']);
  t.same(of(1), ['a']);
});

void t.test('a chunk ends at the positions that the exit needs, and leaves no single position', async (t) => {
  const end = (most: number, done: [number, number]): number =>
    prefillTask(sequence('a', done), most, costs)?.end ?? NaN;
  t.same([end(8, [39, 10]), end(128, [39, 10]), end(28, [39, 10])], [18, 39, 37]);
  t.equal(end(8, [0, 0]), 8);
});

void t.test('a step takes the first tasks that fit into one run, and one at least', async (t) => {
  const tasks = [10, 8, 20, 1].flatMap((length) => prefillTask(sequence('a', [39 - length, 0], 0), 99, costs) ?? []);
  const taken = (mostPrefill: number): number[] =>
    fittingTasks(tasks, { mostPrefill } as unknown as Executor).map(({ positions }) => positions);
  t.same(taken(Infinity), [10, 8, 20, 1]);
  t.same(taken(18), [10, 8]);
  t.same(taken(37), [10, 8], 'a task that fits does not overtake one that does not');
  t.same(taken(4), [10]);
});
