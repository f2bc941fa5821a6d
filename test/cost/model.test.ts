/** Cost of a step by its units: trunk stages, exit blocks, head and what a step costs beside its graphs. */
import t from 'tap';
import { costModel, predictMs, prefillMs } from '../../src/engine/scheduler/cost/model.js';
import { depthShape, lengthPrior } from '../../src/engine/depth-shape.js';
import type { CostPoint, CostTable } from '../../src/engine/scheduler/cost/table.js';
import { blockSample, layers, sample, shape, table } from '../scheduler/sample.js';

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
  const low = prefillMs(sample, { ...work, from: 0, to: 2 });
  const high = prefillMs(sample, { ...work, from: 2 });
  t.ok(isNear(low + high, all), `${low} and ${high} of ${all}`);
  t.ok(isNear(low / all, 15 / 30));
});

void t.test('the cost of a step beside its graphs counts for every step', async (t) => {
  const step = { unit: 'step', kernel: '', decode: [1, 4].map((rows) => ({ rows, context: 0, ms: 0.5 })), prefill: [] };
  const model = costModel({ units: [...table.units, step] }, shape);
  const rows = [0, 0, 0, 0, 2];
  t.ok(isNear(decodeMs(rows, model) - decodeMs(rows), 0.5));
});

void t.test('a slowdown at the start multiplies every cost', async (t) => {
  const slow = costModel(table, shape, 2);
  t.ok(isNear(decodeMs([0, 0, 1, 0, 2], slow), 2 * decodeMs([0, 0, 1, 0, 2])));
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
