/** Drift: predictions follow the machine within a second, and neither its noise nor one hiccup. */
import t from 'tap';
import {
  type CostModel,
  type Work,
  decayWhileIdle,
  observeStep,
  predictMs,
} from '../../src/engine/scheduler/cost/model.js';
import { sample } from '../scheduler/sample.js';

const step: Work = { decode: { rows: [0, 0, 0, 0, 4], context: 200 }, prefill: [] };
const tableMs = predictMs(sample, step);

/** Steps that each take `factor` times what the table says, until `forMs` have passed. */
function run(model: CostModel, factor: (i: number) => number, forMs: number): CostModel {
  let now = model;
  for (let i = 0, ms = 0; ms < forMs; i += 1) {
    const actual = tableMs * factor(i);
    now = observeStep(now, step, actual, 0);
    ms += actual;
  }
  return now;
}

const ratio = (model: CostModel): number => predictMs(model, step) / tableMs;

void t.test('a slow spell raises predictions within a second, and they come back', async (t) => {
  const slow = run(sample, () => 1.5, 1000);
  t.ok(Math.abs(ratio(slow) - 1.5) < 0.08, `after a second: ${ratio(slow)}`);
  t.ok(slow.drift.slowdown > 1.3, 'the machine is taken to be slow, not one size of work');
  const back = run(slow, () => 1, 5000);
  t.ok(Math.abs(ratio(back) - 1) < 0.05, `afterwards: ${ratio(back)}`);
});

void t.test('a slowdown that no step confirms decays', async (t) => {
  const slow = run(sample, () => 4, 1000);
  t.equal(ratio(decayWhileIdle(slow, 0)), ratio(slow));
  t.equal(ratio(decayWhileIdle(slow, NaN)), ratio(slow));
  t.ok(ratio(decayWhileIdle(slow, 1000)) > 3, 'not immediately');
  const idle = decayWhileIdle(slow, 60_000);
  t.ok(ratio(idle) < 1.1, `after a minute: ${ratio(idle)}`);
  const twice = decayWhileIdle(decayWhileIdle(slow, 7000), 8000);
  t.ok(Math.abs(ratio(twice) - ratio(decayWhileIdle(slow, 15_000))) < 1e-9, 'two idle times count as their sum');
  t.ok(ratio(run(idle, () => 4, 500)) > 3, 'the next slow steps raise it again');
  const fast = run(sample, () => 0.5, 5000);
  t.ok(Math.abs(ratio(fast) - 0.5) < 0.05, 'a machine that is faster than its table is followed');
  t.equal(ratio(decayWhileIdle(fast, 60_000)), ratio(fast), 'and stays so');
  const after = run(idle, () => 1, 3 * tableMs);
  t.ok(ratio(after) <= ratio(idle), 'ratios ahead of a long idle time move nothing behind it');
});

void t.test('a single hiccup moves little, and is soon forgotten', async (t) => {
  const steady = run(sample, () => 1, 500);
  const after = observeStep(steady, step, tableMs * 30, 0);
  t.ok(ratio(after) < 1.3, `${ratio(after)}`);
  t.ok(ratio(run(after, () => 1, 200)) < 1.15);
});

void t.test('noise of 20% leaves predictions within 10%', async (t) => {
  const noisy = run(sample, (i) => 1 + 0.2 * Math.sin(i * 12.9898), 5000);
  t.ok(Math.abs(ratio(noisy) - 1) < 0.1, `${ratio(noisy)}`);
});

void t.test('planning costs each decode step the same, whatever its depth', async (t) => {
  const shallow: Work = { decode: { rows: [4, 0, 0, 0, 0], context: 200 }, prefill: [] };
  const prompt: Work = { decode: null, prefill: [{ exit: 4, positions: 64, context: 0, chunk: 64 }] };
  let model = sample;
  for (let i = 0; i < 100; i += 1) model = observeStep(model, step, tableMs + 5, 5);
  for (const work of [step, shallow]) {
    t.ok(Math.abs(predictMs(model, work) - predictMs(sample, work) - 5) < 0.1, `${predictMs(model, work)} ms`);
  }
  t.ok(Math.abs(predictMs(model, prompt) / predictMs(sample, prompt) - 1) < 0.01, 'a prefill chunk costs none');
  const hiccup = observeStep(model, step, tableMs + 5000, 5000);
  t.ok(predictMs(hiccup, step) < 1.1 * predictMs(model, step), `${predictMs(hiccup, step)} ms after a hiccup in it`);
});

void t.test('a slowdown has a limit, and a step without a cost or a time teaches nothing', async (t) => {
  t.ok(run(sample, () => 1e6, 1e9).drift.slowdown <= 20);
  t.equal(observeStep(sample, { decode: null, prefill: [] }, 5, 0), sample);
  for (const ms of [NaN, 0, -1, Infinity]) t.equal(observeStep(sample, step, ms, 0), sample, `${ms} ms`);
});
