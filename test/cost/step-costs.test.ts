/** Tabulated costs: what planning asks for is what the cost model says. */
import fc from 'fast-check';
import t from 'tap';
import { type CostModel, at, observeStep, predictMs } from '../../src/engine/scheduler/cost/model.js';
import { affineStepCost, promptMs, stepTable } from '../../src/engine/scheduler/cost/step-costs.js';
import { runs } from '../scheduler/arbitrary.js';
import { blockSample, sample } from '../scheduler/sample.js';

/** The sample machine after a slow spell. */
const slow: CostModel = Array.from({ length: 50 }).reduce<CostModel>((model) => {
  const work = { decode: { rows: [0, 0, 0, 0, 4], context: 200 }, prefill: [] };
  return observeStep(model, work, 1.7 * predictMs(sample, work), 0);
}, sample);

const models = fc.constantFrom(sample, blockSample, slow);
const rowsOf = fc.array(fc.nat(6), { minLength: 5, maxLength: 5 }).filter((rows) => rows.some((count) => count > 0));

void t.test('a tabulated step costs what the model predicts, within 2% for the grain of its context', async () => {
  fc.assert(
    fc.property(models, rowsOf, fc.nat(2000), (model, rows, context) => {
      const ms = stepTable(model, context)(Int32Array.from(rows));
      const exact = predictMs(model, { decode: { rows, context }, prefill: [] });
      return ms >= exact - 1e-9 && ms <= 1.02 * exact;
    }),
    runs,
  );
});

void t.test('a tabulated step follows the drift, though its table stays', async (t) => {
  const rows = Int32Array.of(0, 0, 1, 0, 3);
  const before = stepTable(sample, 100)(rows);
  t.ok(stepTable(slow, 100)(rows) > 1.5 * before);
  t.equal(stepTable(sample, 100)(rows), before);
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
        const step = stepTable(model, context);
        const cost = affineStepCost(step, 5, many);
        return [0, 1, 2, 3, 4].every((exit) => {
          const { rowMs: perRow, fixedMs: fixed } = at(cost, exit);
          const isRising = exit === 0 || (perRow >= at(cost, exit - 1).rowMs && fixed >= at(cost, exit - 1).fixedMs);
          const rows = new Int32Array(5);
          const isMet = [1, many].every((count) => {
            rows[exit] = count;
            const exact = step(rows);
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
