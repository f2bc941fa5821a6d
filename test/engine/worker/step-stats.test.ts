import t from 'tap';
import { exitTimes } from '../../../src/engine/worker/step-stats.js';
import type { DepthShape, Work } from '../../../src/engine/scheduler/cost/model.js';

const shape: DepthShape = {
  stages: ['a', 'b'],
  exits: [10, 30].map((layer, stage) => ({ layer, stage, block: null, accuracy: 1 })),
};
const prefill = { exit: 1, positions: 8, context: 0, chunk: 8 };
/** Predicted costs: 4 ms for decode, 6 ms for each prefill. */
const cost = ({ decode, prefill }: Work): number => (decode === null ? 0 : 4) + prefill.length * 6;

void t.test('exitTimes splits a step by predicted cost and depth, and sums to its duration', (t) => {
  const decode = { rows: [3, 1], context: 5 };
  t.same(exitTimes(shape, { decode, prefill: [] }, cost, 12), [6, 6], 'three rows of 10 layers weigh one of 30');
  t.same(exitTimes(shape, { decode: null, prefill: [prefill] }, cost, 12), [0, 12]);
  t.same(exitTimes(shape, { decode, prefill: [prefill] }, cost, 20), [4, 16]);
  t.same(exitTimes(shape, { decode: { rows: [0, 2], context: 5 }, prefill: [] }, cost, 7), [0, 7]);
  t.same(
    exitTimes(shape, { decode, prefill: [] }, () => 0, 7),
    [0, 0],
    'no predicted cost',
  );
  t.end();
});
