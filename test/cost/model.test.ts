/** Cost of a step by its units: trunk stages, exit blocks, head and what a step costs beside its graphs. */
import t from 'tap';
import fc from 'fast-check';
import { at } from '../../src/util/at.js';
import {
  costModel,
  decodeMs as stepMs,
  predictMs,
  prefillMs,
  type CostModel,
  observeStep,
} from '../../src/engine/scheduler/cost/model.js';
import { depthShape, lengthPrior } from '../../src/engine/depth-shape.js';
import { type CostPoint, type CostTable, cheapestAt, costAt, curveOf } from '../../src/engine/scheduler/cost/table.js';
import { blockSample, layers, sample, shape, table } from '../scheduler/sample.js';
import { affineStepCost, promptMs } from '../../src/engine/scheduler/cost/step-costs.js';
import { runs } from '../scheduler/arbitrary.js';

const decodeMs = (rows: readonly number[], model = sample, context = 200): number =>
  predictMs(model, { decode: { rows, context }, prefill: [] });
const isNear = (actual: number, expected: number): boolean =>
  Math.abs(actual - expected) < 1e-9 * Math.max(1, expected);

void t.test('a step costs each stage with the rows that reach it', async (t) => {
  const flat = (unit: string, ms: number) => {
    const points: CostPoint[] = [1, 2].map((rows) => ({ rows, context: 0, ms: ms * rows }));
    return { unit, kernel: 'k', decode: points, prefill: points };
  };
  const two = {
    stages: ['a', 'b'],
    exits: [
      { layer: 1, stage: 0, block: 'x', accuracy: 0.5 },
      { layer: 2, stage: 1, block: null, accuracy: 1 },
    ],
  };
  const model = costModel({ units: [flat('a', 1), flat('b', 10), flat('x', 100), flat('head', 1000)] }, two);
  t.equal(decodeMs([0, 1], model, 0), 1011, 'no row leaves at the block');
  t.equal(decodeMs([1, 0], model, 0), 1101, 'no row reaches the second stage');
  t.equal(decodeMs([2, 1], model, 0), 3 + 10 + 200 + 3000);
  const prefill = (exit: number) => prefillMs(model, { exit, positions: 2, context: 0, chunk: 2 });
  t.equal(prefill(0), 202, 'stage and block, no head');
  t.equal(prefill(1), 22);
});

void t.test('a deeper exit and a further row never make a step cheaper', async (t) => {
  for (const model of [sample, blockSample]) {
    let before = 0;
    for (let rows = 1; rows <= 32; rows += 1) {
      const ms = decodeMs([0, 0, 0, 0, rows], model);
      t.ok(ms >= before, `${rows} rows: ${ms} ms after ${before} ms`);
      before = ms;
    }
  }
  const byExit = layers.map((_, exit) => decodeMs(layers.map((__, i) => (i === exit ? 3 : 0))));
  t.same(
    byExit,
    [...byExit].sort((a, b) => a - b),
  );
  t.ok((byExit[4] ?? 0) > 1.5 * (byExit[0] ?? 0));
});

void t.test('a prompt costs its chunks one after the other', async (t) => {
  const ms = (positions: number, context: number, chunk: number) =>
    prefillMs(sample, { exit: 4, positions, context, chunk });
  t.ok(isNear(ms(128, 0, 128) + ms(72, 128, 128), ms(200, 0, 128)));
  t.ok(ms(200, 0, 16) > ms(200, 0, 128), 'small chunks cost more');
  t.equal(ms(0, 0, 128), 0);
});

void t.test('a run of stages costs its own part, and a catch-up leaves out what is there', async (t) => {
  const work = { exit: 4, positions: 100, context: 0, chunk: 128 };
  const all = prefillMs(sample, work);
  const low = prefillMs(sample, { ...work, units: [0, 1] });
  const high = prefillMs(sample, { ...work, units: [2, 3, 4] });
  t.ok(isNear(low + high, all), `${low} and ${high} of ${all}`);
  t.ok(isNear(low / all, 15 / 30));
});

void t.test('the cost of a step beside its graphs counts for every step, and a slowdown multiplies all', async (t) => {
  const step = { unit: 'step', kernel: '', decode: [1, 4].map((rows) => ({ rows, context: 0, ms: 0.5 })), prefill: [] };
  const rows = [0, 0, 1, 0, 2];
  t.ok(isNear(decodeMs(rows, costModel({ units: [...table.units, step] }, shape)) - decodeMs(rows), 0.5));
  t.ok(isNear(decodeMs(rows, costModel(table, shape, 2)), 2 * decodeMs(rows)));
});

void t.test('a table without a unit is rejected by a message that names the unit', async (t) => {
  const without = (unit: string): CostTable => ({ units: table.units.filter((each) => each.unit !== unit) });
  t.throws(() => costModel(without('trunk-20'), shape), /"trunk-20"/);
  const noPrefill = table.units.map((each) => (each.unit === 'trunk-10' ? { ...each, prefill: [] } : each));
  t.throws(() => costModel({ units: noPrefill }, shape), /"trunk-10"/);
  t.doesNotThrow(() => costModel(without('head'), shape));
});

void t.test('an exit without an accuracy has its agreement, else its share of the layers', async (t) => {
  const exit = (layer: number, agreement?: number) => ({ layer, stage: 0, block: null, quality: { agreement } });
  const manifest = { stages: [{ name: 's' }], exits: [exit(10), exit(20, 0.9), { ...exit(40), block: { name: 'x' } }] };
  const { stages, exits } = depthShape(manifest as unknown as Parameters<typeof depthShape>[0]);
  t.same(stages, ['s']);
  const accuracies = exits.map(({ accuracy }) => accuracy);
  t.same(accuracies, [0.25, 0.9, 1]);
  const found = exits.map(({ block }) => block);
  t.same(found, [null, null, 'x']);
});

void t.test('lengths of answers are a prior where each exit has some', async (t) => {
  const priorOf = (...all: object[]) => lengthPrior({ exits: all } as unknown as Parameters<typeof lengthPrior>[0]);
  const [some, more] = [[[0.5, 20]], [[0.5, 30]]];
  t.same(priorOf({ lengths: { chat: some } }, { lengths: { chat: more } }), [some, more]);
  t.equal(priorOf({ lengths: { chat: some } }, {}), null);
  t.equal(priorOf({ lengths: { chat: [] } }, { lengths: { chat: more } }), null, 'all answers were cut');
});

// Curves between and beyond what was measured.

const point = (rows: number, ms: number, context = 0): CostPoint => ({ rows, context, ms });
const costOf = (points: readonly CostPoint[], rows: number, context = 0): number =>
  costAt(curveOf(points), rows, context);

void t.test('a curve is linear between and beyond its points, and never predicts free attention', async (t) => {
  const [rising, attention] = [
    [point(1, 2), point(2, 3), point(4, 7)],
    [point(1, 2), point(1, 3, 100)],
  ];
  for (const [points, rows, context, ms, what] of [
    [[point(2, 6)], 4, 0, 12, 'one point counts for each row'],
    [[point(2, 6)], 1, 0, 6, 'fewer rows than measured'],
    [rising, 3, 0, 5, 'between'],
    [rising, 6, 0, 11, 'beyond'],
    [attention, 1, 50, 2.5, 'between contexts'],
    [attention, 1, 300, 5, 'beyond them'],
    [[point(1, 3), point(1, 2, 100)], 1, 1000, 2, 'a falling slope'],
    [[...attention, point(1, 9, 200)], 1, 150, 6, 'the two nearest contexts'],
    [[point(1, 2)], 0, 0, 0, 'no rows'],
    [[], 3, 0, 0, 'no points'],
  ] as const)
    t.equal(costOf(points, rows, context), ms, what);
});

void t.test('a cost never falls with rows', async (t) => {
  const points = [point(8, 4), point(1, 2), point(4, 5)];
  t.equal(costOf(points, 8), 5, 'a dip of the measurement');
  for (let rows = 2; rows <= 20; rows += 1) t.ok(costOf(points, rows) >= costOf(points, rows - 1), `${rows} rows`);
});

void t.test('the cheapest kernel at the number of rows gives the cost', async (t) => {
  const kernels = [curveOf([point(1, 2), point(16, 16)]), curveOf([point(1, 4), point(16, 12)])];
  t.equal(cheapestAt(kernels, 1, 0), 2);
  t.equal(cheapestAt(kernels, 16, 0), 12);
  t.equal(cheapestAt([], 3, 0), 0);
});

// Tabulated costs: what planning asks for is what the cost model says.

/** The sample machine after a slow spell. */
const slow: CostModel = Array.from({ length: 50 }).reduce<CostModel>((model) => {
  const work = { decode: { rows: [0, 0, 0, 0, 4], context: 200 }, prefill: [] };
  return observeStep(model, work, 1.7 * predictMs(sample, work), 0);
}, sample);

const models = fc.constantFrom(sample, blockSample, slow);
const rowsOf = fc.array(fc.nat(6), { minLength: 5, maxLength: 5 }).filter((rows) => rows.some((count) => count > 0));

void t.test('a tabulated step costs what its units do, within 2% for the grain of its context', async () => {
  fc.assert(
    fc.property(models, rowsOf, fc.nat(2000), (model, rows, context) => {
      const ms = stepMs(model, rows, context);
      const counts = model.units.map((_, unit) => {
        const some = rows.filter((__, exit) => unit >= model.units.length - 3 || at(model.needed, exit).includes(unit));
        return some.reduce((sum, count) => sum + count, 0);
      });
      const costs = model.units.map(({ decode }, unit) => cheapestAt(decode, at(counts, unit), context));
      const exact = costs.reduce((sum, cost) => sum + cost, 0) * model.drift.slowdown;
      return ms >= exact - 1e-9 && ms <= 1.02 * exact;
    }),
    runs,
  );
});

void t.test('a tabulated step follows the drift, though its table stays', async (t) => {
  const rows = [0, 0, 1, 0, 3];
  const before = stepMs(sample, rows, 100);
  t.ok(stepMs(slow, rows, 100) > 1.5 * before);
  t.equal(stepMs(sample, rows, 100), before);
});

void t.test('a tabulated prompt costs what the model predicts for whole grains, and never less', async () => {
  const chunks = fc.constantFrom(16, 64, 128, 512);
  fc.assert(
    fc.property(models, fc.nat(4), fc.integer({ min: 1, max: 1500 }), chunks, (model, exit, positions, chunk) => {
      const ms = promptMs(model, exit, positions, chunk);
      const exact = (length: number): number =>
        predictMs(model, { decode: null, prefill: [{ exit, positions: length, context: 0, chunk }] });
      const whole = Math.ceil(positions / 16) * 16;
      return positions === whole ? Math.abs(ms - exact(whole)) < 1e-9 : ms >= 0.8 * exact(positions);
    }),
    runs,
  );
});

void t.test(
  'the affine view rises with depth, and meets the table at one row and at the rows that it is for',
  async () => {
    fc.assert(
      fc.property(models, fc.nat(1000), fc.integer({ min: 2, max: 30 }), (model, context, many) => {
        const cost = affineStepCost(model, context, many);
        return [0, 1, 2, 3, 4].every((exit) => {
          const { rowMs: perRow, fixedMs: fixed } = at(cost, exit);
          const isRising = exit === 0 || (perRow >= at(cost, exit - 1).rowMs && fixed >= at(cost, exit - 1).fixedMs);
          const rows = new Int32Array(5);
          const isMet = [1, many].every((count) => {
            rows[exit] = count;
            const exact = stepMs(model, rows, context);
            // A deeper exit never costs less, so a measurement that says otherwise is exceeded.
            return perRow * count + fixed >= exact - 1e-9 && perRow * count + fixed <= 1.05 * exact;
          });
          return perRow >= 0 && isRising && isMet;
        });
      }),
      runs,
    );
  },
);
