/** Curves between and beyond what was measured. */
import t from 'tap';
import { type CostPoint, cheapestAt, costAt, curveOf } from '../../src/engine/scheduler/cost/table.js';

const at = (rows: number, ms: number, context = 0): CostPoint => ({ rows, context, ms });
const costOf = (points: readonly CostPoint[], rows: number, context = 0): number =>
  costAt(curveOf(points), rows, context);

void t.test('a single point counts for each row, and two points at one place count with their mean', async (t) => {
  t.equal(costOf([at(2, 6)], 4), 12);
  t.equal(costOf([at(2, 6)], 1), 6, 'fewer rows than measured cost what was measured');
  t.equal(costOf([at(1, 2), at(4, 4), at(4, 6)], 4), 5);
});

void t.test('a cost is linear between two points, and the last slope goes on beyond them', async (t) => {
  t.equal(costOf([at(1, 2), at(2, 3), at(4, 7)], 3), 5);
  t.equal(costOf([at(1, 2), at(2, 3), at(4, 7)], 6), 11);
});

void t.test('a cost never falls with rows', async (t) => {
  const points = [at(8, 4), at(1, 2), at(4, 5)];
  t.equal(costOf(points, 8), 5, 'a dip of the measurement');
  for (let rows = 2; rows <= 20; rows += 1) t.ok(costOf(points, rows) >= costOf(points, rows - 1), `${rows} rows`);
});

void t.test('a slope over the context goes on, but never predicts free attention', async (t) => {
  t.equal(costOf([at(1, 2), at(1, 3, 100)], 1, 50), 2.5);
  t.equal(costOf([at(1, 2), at(1, 3, 100)], 1, 300), 5);
  t.equal(costOf([at(1, 3), at(1, 2, 100)], 1, 1000), 2);
  t.equal(costOf([at(1, 2), at(1, 3, 100), at(1, 9, 200)], 1, 150), 6, 'the two nearest contexts count');
});

void t.test('no rows and no points cost nothing', async (t) => {
  t.equal(costOf([at(1, 2)], 0), 0);
  t.equal(costOf([], 3), 0);
  t.equal(cheapestAt([], 3, 0), 0);
});

void t.test('the cheapest kernel at the number of rows gives the cost', async (t) => {
  const kernels = [curveOf([at(1, 2), at(16, 16)]), curveOf([at(1, 4), at(16, 12)])];
  t.equal(cheapestAt(kernels, 1, 0), 2);
  t.equal(cheapestAt(kernels, 16, 0), 12);
});
