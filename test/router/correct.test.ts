import t from 'tap';
import {
  type CostModel,
  type Work,
  correct,
  noLengths,
  observeLength,
  plannedLength,
  predictMs,
  rest,
} from '../../src/router/planner.js';
import { sample } from './sample.js';

const step: Work = { decode: { rows: [0, 0, 0, 0, 4], context: 200 }, prefill: [] };
const tableMs = predictMs(sample, step);

/** Steps that each take `factor` times what the table says, until `forMs` have passed. */
function live(model: CostModel, factor: (i: number) => number, forMs: number): CostModel {
  let now = model;
  for (let i = 0, ms = 0; ms < forMs; i += 1) {
    const actual = tableMs * factor(i);
    now = correct(now, step, actual);
    ms += actual;
  }
  return now;
}

const ratio = (model: CostModel): number => predictMs(model, step) / tableMs;

void t.test('a slow spell raises predictions within a second, and they come back', (t) => {
  const slow = live(sample, () => 1.5, 1000);
  t.ok(Math.abs(ratio(slow) - 1.5) < 0.08, `after a second: ${ratio(slow)}`);
  const back = live(slow, () => 1, 5000);
  t.ok(Math.abs(ratio(back) - 1) < 0.05, `afterwards: ${ratio(back)}`);
  t.end();
});

void t.test('a slow spell that nobody measures any more is forgotten', (t) => {
  const slow = live(sample, () => 4, 1000);
  t.equal(ratio(rest(slow, 0)), ratio(slow));
  t.ok(ratio(rest(slow, 1000)) > 3, 'not at once');
  const idle = rest(slow, 60_000);
  t.ok(ratio(idle) < 1.1, `after a minute: ${ratio(idle)}`);
  t.ok(Math.abs(ratio(rest(rest(slow, 7000), 8000)) - ratio(rest(slow, 15_000))) < 1e-9, 'however often it is asked');
  t.ok(ratio(live(idle, () => 4, 500)) > 3, 'it is learnt again as soon as it shows');
  const fast = live(sample, () => 0.5, 5000);
  t.equal(ratio(rest(fast, 60_000)), ratio(fast), 'a machine that is faster than its table stays so');
  t.end();
});

void t.test('a single hiccup moves nothing', (t) => {
  const steady = live(sample, () => 1, 500);
  const after = correct(steady, step, tableMs * 30);
  t.ok(ratio(after) < 1.3, `${ratio(after)}`);
  t.ok(ratio(live(after, () => 1, 200)) < 1.15, 'and is soon forgotten');
  t.end();
});

void t.test('noise of 20% leaves predictions within 10%', (t) => {
  const noisy = live(sample, (i) => 1 + 0.2 * Math.sin(i * 12.9898), 5000);
  t.ok(Math.abs(ratio(noisy) - 1) < 0.1, `${ratio(noisy)}`);
  t.end();
});

void t.test('a prompt slows the pace of those who wait for it, and tells nothing of it where there is nobody', (t) => {
  const prompt: Work = { decode: null, prefill: [{ exit: 4, positions: 128, context: 0, chunk: 128 }] };
  const pace = (model: CostModel): number => model.correction.paceMs;
  t.equal(pace(correct(sample, prompt, 75)), 0, 'a first prompt tells nothing');
  t.equal(pace(correct(sample, prompt, 75, true)), 0, 'nor does it where nobody ever decoded');
  const decoded = correct(correct(sample, prompt, 75), step, tableMs);
  t.ok(Math.abs(pace(decoded) - tableMs) < 1e-9, `${pace(decoded)}`);
  t.equal(pace(correct(decoded, prompt, 75)), pace(decoded), 'a prompt that runs alone');
  t.ok(pace(correct(decoded, prompt, 75, true)) > pace(decoded), 'one that others wait for');
  t.end();
});

void t.test('a step without a cost or a time teaches nothing', (t) => {
  t.equal(ratio(correct(sample, { decode: null, prefill: [] }, 5)), 1);
  t.equal(ratio(correct(sample, step, NaN)), 1);
  t.end();
});

void t.test(
  'lengths: max_tokens until enough was seen, then the quantile, never less than what is there already',
  (t) => {
    let lengths = noLengths;
    t.equal(plannedLength(lengths, 256, 0, 0.9), 256);
    for (let i = 1; i <= 100; i += 1) lengths = observeLength(lengths, 256, i);
    const planned = plannedLength(lengths, 256, 0, 0.9);
    t.ok(planned >= 80 && planned <= 100, `${planned}`);
    t.equal(plannedLength(lengths, 256, 0, 1), 256);
    t.ok(plannedLength(lengths, 256, 95, 0.9) > 95);
    t.equal(plannedLength(lengths, 256, 255, 0.9), 256);
    t.end();
  },
);

void t.test('lengths: who is beyond the short answers is planned for as the long ones', (t) => {
  let lengths = noLengths;
  for (let i = 0; i < 200; i += 1) lengths = observeLength(lengths, 256, i % 4 === 0 ? 200 : 10);
  t.ok(plannedLength(lengths, 256, 0, 0.5) < 15);
  t.ok(plannedLength(lengths, 256, 50, 0.5) >= 180, `${plannedLength(lengths, 256, 50, 0.5)}`);
  t.end();
});

void t.test('after a long rest, what was measured before it says nothing', (t) => {
  const idle = rest(
    live(sample, () => 4, 1000),
    60_000,
  );
  const after = live(idle, () => 1, 3 * tableMs);
  t.ok(ratio(after) <= ratio(idle), `${ratio(after)} after ${ratio(idle)}`);
  t.end();
});

void t.test('one kind of work is never taken to be much further off than another: the machine is', (t) => {
  const chunk: Work = { decode: null, prefill: [{ exit: 4, positions: 128, context: 0, chunk: 128 }] };
  const chunkMs = predictMs(sample, chunk);
  let model = sample;
  for (let i = 0; i < 4000; i += 1) model = correct(correct(model, step, tableMs), chunk, 10 * chunkMs);
  const apart = predictMs(model, chunk) / chunkMs / ratio(model);
  t.ok(apart > 1.5 && apart < 3, `${apart}`);
  t.end();
});
