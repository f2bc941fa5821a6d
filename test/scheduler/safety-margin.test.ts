/** The safety margin settles where the target share of guarantees is kept. */
import t from 'tap';
import { type SafetyMargin, marginAt as marginOf, observePromise } from '../../src/scheduler/promise.js';
import { defaultPolicy } from '../../src/scheduler/policy.js';
import { seeded } from '../../src/util/random.js';

const initial: SafetyMargin = { margin: defaultPolicy.initialMargin, at: -Infinity };
const marginAt = (margin: SafetyMargin, now: number): number => marginOf(margin, now, defaultPolicy);
const observe = (margin: SafetyMargin, isKept: boolean, now: number): SafetyMargin =>
  observePromise(margin, isKept, now, defaultPolicy);
const many = (start: SafetyMargin, count: number, isKept: boolean, now: number) => {
  let margin = start;
  for (let i = 0; i < count; i += 1) margin = observe(margin, isKept, now);
  return margin;
};

void t.test('a margin settles where as many guarantees are kept as its target says', async (t) => {
  const random = seeded(1);
  let margin = initial;
  let missed = 0;
  // Whatever margin there is, an answer may need up to 40% more than planned: 40 in 100 are beyond a margin of 0.24.
  for (let i = 0; i < 20_000; i += 1) {
    const isKept = 0.4 * random() <= margin.margin;
    if (!isKept && i >= 2_000) missed += 1;
    margin = observe(margin, isKept, i);
  }
  t.ok(missed / 18_000 < 0.0075, `${missed} of 18000`);
  t.ok(margin.margin > 0.3 && margin.margin < 0.55, `${margin.margin}`);
});

void t.test('a margin stays between none and twice the time', async (t) => {
  t.equal(many(initial, 1000, true, 0).margin, 0);
  t.equal(many(initial, 1000, false, 0).margin, 1);
});

void t.test('a margin without outcomes decays to where it began: what it rejects has no outcome', async (t) => {
  const missed = many(initial, 12, false, 1000);
  t.equal(marginAt(missed, 1000), 1);
  t.equal(marginAt(missed, 10_000), 1, 'outcomes may be ten seconds apart');
  t.ok(marginAt(missed, 21_000) < 0.7, `ten seconds later: ${marginAt(missed, 21_000)}`);
  const halfMs = 1000 + defaultPolicy.marginHoldMs + defaultPolicy.marginHalfLifeMs;
  t.equal(marginAt(missed, halfMs), (initial.margin + 1) / 2, 'half of the excess');
  t.ok(marginAt(missed, 181_000) < 0.2, `three minutes later: ${marginAt(missed, 181_000)}`);
  t.ok(marginAt(missed, 1e9) >= initial.margin);
  const kept = observe(missed, true, 181_000);
  t.ok(kept.margin < marginAt(missed, 181_000), 'the next outcome goes on from there');
  const sure = many(initial, 1000, true, 1000);
  t.equal(marginAt(sure, 1e9), 0, 'a margin below its first value stays');
});
