/** What work costs: between and beyond what was measured, by the cheaper kernel, with all that a step runs. */
import t from 'tap';
import type { CostPoint, CostTable } from '../../src/router/cost.js';
import { costModel, depthShape, predictMs } from '../../src/router/planner.js';
import { sample, shape, table } from './sample.js';

const one = { stages: ['s'], exits: [{ layer: 1, stage: 0, block: null, quality: 1 }] };
const prefill = [{ rows: 1, context: 0, ms: 1 }];

/** Milliseconds of a step of so many rows, by what was measured of the only stage with each kernel. */
function stepMs(kernels: readonly (readonly CostPoint[])[], rows: number, context = 0): number {
  const units = kernels.map((decode, i) => ({ unit: 's', kernel: `k${i}`, decode, prefill }));
  return predictMs(costModel({ units }, one), { decode: { rows: [rows], context }, prefill: [] });
}
const at = (rows: number, ms: number, context = 0): CostPoint => ({ rows, context, ms });

void t.test('one measurement counts for each row; two at one place count with their mean', async (t) => {
  t.equal(stepMs([[at(2, 6)]], 4), 12);
  t.equal(stepMs([[at(1, 2), at(4, 4), at(4, 6)]], 4), 5);
});

void t.test('more rows never cost less, and beyond the last point the slope goes on', async (t) => {
  t.equal(stepMs([[at(1, 2), at(4, 5), at(8, 4)]], 8), 5);
  t.equal(stepMs([[at(1, 2), at(2, 3), at(4, 7)]], 6), 11);
});

void t.test('a slope over the context goes on, but never promises free attention', async (t) => {
  t.equal(stepMs([[at(1, 2), at(1, 3, 100)]], 1, 300), 5);
  t.equal(stepMs([[at(1, 3), at(1, 2, 100)]], 1, 1000), 2);
});

void t.test('the cheaper kernel at these rows is the cost', async (t) => {
  const kernels = [
    [at(1, 2), at(16, 16)],
    [at(1, 4), at(16, 12)],
  ];
  t.equal(stepMs(kernels, 1), 2);
  t.equal(stepMs(kernels, 16), 12);
});

void t.test('what a step costs beside its graphs counts for every step', async (t) => {
  const step = { unit: 'step', kernel: '', decode: [at(1, 0.5), at(4, 0.5)], prefill: [] };
  const work = { decode: { rows: [0, 0, 0, 0, 2], context: 100 }, prefill: [] };
  const more = predictMs(costModel({ units: [...table.units, step] }, shape), work) - predictMs(sample, work);
  t.ok(Math.abs(more - 0.5) < 1e-9, `${more}`);
});

void t.test('a table that lacks a unit is refused, and says which', async (t) => {
  const without = (unit: string): CostTable => ({ units: table.units.filter((each) => each.unit !== unit) });
  t.throws(() => costModel(without('trunk-20'), shape), /"trunk-20"/);
  t.doesNotThrow(() => costModel(without('head'), shape));
});

void t.test('an exit that nobody measured counts with its share of the layers', async (t) => {
  const exit = (layer: number, agreement?: number) => ({ layer, stage: 0, block: null, quality: { agreement } });
  const { exits } = depthShape({ stages: [{ name: 's' }], exits: [exit(10), exit(20, 0.9), exit(40)] });
  t.same(
    exits.map(({ quality }) => quality),
    [0.25, 0.9, 1],
  );
});
