/** The early start of nets: the learnt times of sentences, and the choice by expected right answers. Pure. */
import t from 'tap';
import { netStart, accuracyWithin } from '../../src/gateway/upstream/early-start.js';
import { FirstSentence, SentenceTimes } from '../../src/gateway/upstream/sentence-times.js';

void t.test('an upstream without tries has its sentences in time', async (t) => {
  t.equal(new SentenceTimes().chance(1), 1);
});

void t.test('the chance of a sentence grows with the time, and with the tries that have one', async (t) => {
  const times = new SentenceTimes();
  for (let i = 0; i < 32; i += 1) {
    times.observe(200, true);
    times.observe(2000, false);
  }
  const before = times.chance(100);
  const behind = times.chance(300);
  t.ok(before < 0.1, `${before} before the first sentence`);
  t.ok(behind > 0.5 && behind < 0.6, `${behind} with half of the sentences`);
  t.equal(times.chance(10_000), behind, 'a try without a sentence says nothing of the time behind its end');
});

void t.test('a try that ended early is no late sentence', async (t) => {
  const times = new SentenceTimes();
  for (let i = 0; i < 20; i += 1) {
    times.observe(100, false);
    times.observe(400, true);
  }
  t.ok(times.chance(500) > 0.99);
  t.ok(times.chance(300) < 0.2);
});

void t.test('old tries are forgotten, and a few bad ones count little', async (t) => {
  const times = new SentenceTimes();
  times.observe(1000, false);
  t.ok(times.chance(900) >= 0.8);
  for (let i = 0; i < 64; i += 1) times.observe(1000, false);
  t.ok(times.chance(900) < 0.1);
  for (let i = 0; i < 64; i += 1) times.observe(10, true);
  t.ok(times.chance(900) > 0.99);
});

void t.test('a sentence is known once', async (t) => {
  const times = new SentenceTimes();
  for (let i = 0; i < 50; i += 1) {
    const first = new FirstSentence(times, 1000);
    first.known(true, 1200);
    first.known(false, 9000);
  }
  const asked = new FirstSentence(times, 5000);
  t.ok(asked.chanceBy(5201) > 0.99);
  t.ok(asked.chanceBy(5199) < 0.1);
});

const EXITS = [
  { layer: 10, accuracy: 0.5 },
  { layer: 20, accuracy: 0.7 },
  { layer: 30, accuracy: 1 },
];

void t.test('a local answer has the deepest exit whose sentence fits', async (t) => {
  t.equal(accuracyWithin(EXITS, 100, 90), 0.5, 'the shallowest one in any case');
  t.equal(accuracyWithin(EXITS, 100, 199), 0.5);
  t.equal(accuracyWithin(EXITS, 100, 200), 0.7);
  t.equal(accuracyWithin(EXITS, 100, 5000), 1);
});

void t.test('a net starts at once where more right answers are to be expected', async (t) => {
  const usual = { upstream: 1, early: 0.9, late: 0.5, chanceEarly: 0.5, chanceLate: 0.95, busy: 0 };
  t.equal(netStart(usual), 'latest', 'a reliable upstream');
  t.equal(netStart({ ...usual, chanceLate: 0.6 }), 'ahead');
  t.equal(netStart({ ...usual, chanceLate: 0.6, busy: 0.6 }), 'latest', 'the engine has other work');
  t.equal(netStart({ ...usual, chanceLate: 0.1, busy: 1 }), 'ahead', 'an upstream that is hardly ever in time');
  t.equal(netStart({ ...usual, chanceLate: 0, early: 0.5 }), 'latest', 'an early answer is no better');
  t.equal(netStart({ ...usual, upstream: 0.3 }), 'rival', 'the upstream is right less often');
  t.equal(netStart({ ...usual, upstream: 0.85, early: 0.9, chanceEarly: 0.9 }), 'latest', 'the gain is small');
});
