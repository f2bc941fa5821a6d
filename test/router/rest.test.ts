/** Who sits a step out for whom. */
import t from 'tap';
import { type Budget, type SequenceState, nothingLearned, order } from '../../src/router/planner.js';
import { exactPolicy } from './arbitrary.js';
import { decoding as answer, NOW, planOf } from './decoding.js';
import { layers, sample } from './sample.js';

/** In the middle of an answer that is to stay at an exit. */
function decoding(id: string, exit: number, budget: Partial<Budget>): SequenceState {
  const frontier = layers.map((layer) => (layer <= exit ? 239 : 0));
  return answer(id, budget, { minExit: exit, exit, maxExit: exit, frontier });
}

/** A prompt that just came, for the shallowest exit. */
function prompt(budget: Partial<Budget>): SequenceState {
  return {
    ...{ ...decoding('prompt', 10, budget), arrivedAt: NOW, generated: 0, frontier: layers.map(() => 0) },
    ...{ firstTokenAt: null, lastTokenAt: null, tokensAtExit: 0 },
  };
}

const loose = Array.from({ length: 8 }, (_, i) => decoding(`loose${i}`, 30, { totalMs: 20_000 }));

function pausedOf(live: SequenceState[], now = NOW): readonly string[] {
  const { paused, plan } = planOf(live, now);
  if (plan.agenda.lost.size > 0) throw new Error('nobody has to be given up');
  return paused;
}

void t.test('answers with time rest for a first token that is due before', async (t) => {
  t.strictSame(pausedOf([...loose, prompt({ ttftMs: 2_000 })]), []);
  t.ok(pausedOf([...loose, prompt({ ttftMs: 50 })]).length > 3);
});

void t.test('answers with time rest for a pace that all of them together can not hold', async (t) => {
  t.strictSame(pausedOf([...loose, decoding('paced', 10, { tpotMs: 30 })]), []);
  t.ok(pausedOf([...loose, decoding('paced', 10, { tpotMs: 8 })]).length > 3);
});

void t.test('an answer whose first token is there rests for others, but not for ever', async (t) => {
  const begun = decoding('begun', 30, { ttftMs: 500 });
  const tight = (now: number): SequenceState => ({
    ...{ ...decoding('tight', 10, { totalMs: 12 + 40 * 5 }), arrivedAt: now },
    ...{ firstTokenAt: now, lastTokenAt: now },
  });
  t.strictSame(pausedOf([begun, tight(NOW)]), ['begun']);
  t.strictSame(pausedOf([begun, tight(60_000)], 60_000), []);
});

void t.test('nor does it wait for ever for a slot that it gave back', async (t) => {
  const { id, ...begun } = decoding('begun', 30, { ttftMs: 500 });
  const others = Array.from({ length: 3 }, (_, i) => ({
    ...decoding(`other${i}`, 30, { totalMs: 70_000 }),
    generated: 0,
  }));
  const state = { now: 60_000, slots: 16, kvRoom: 1e6, live: [], learned: nothingLearned };
  t.equal(order([...others, { id, ...begun }], state, sample, exactPolicy)[0]?.id, id);
});

void t.test('a deep row without a budget pays for the layers that it alone brings', async (t) => {
  const free = { ...decoding('free', 30, {}), budget: null };
  const shallow = (leftMs: number): SequenceState => ({
    ...{ ...decoding('shallow', 10, { totalMs: leftMs + exactPolicy.requestOverheadMs }), arrivedAt: NOW },
    ...{ firstTokenAt: NOW, lastTokenAt: NOW },
  });
  t.strictSame(pausedOf([shallow(2_000), free]), []);
  t.strictSame(pausedOf([shallow(280), free]), ['free']);
  const along = { ...free, id: 'along', minExit: 10, exit: 10, maxExit: 10 };
  t.strictSame(pausedOf([shallow(280), along]), [], 'one that leaves as early costs next to nothing');
});

void t.test('rows without a budget ride along as long as there is time; one deep row pays for the next', async (t) => {
  const free = (count: number, exit: number): SequenceState[] =>
    Array.from({ length: count }, (_, i) => ({ ...decoding(`free${i}`, exit, {}), budget: null }));
  const shallow: SequenceState = {
    ...{ ...decoding('shallow', 10, { totalMs: 480 + exactPolicy.requestOverheadMs }), arrivedAt: NOW },
    ...{ firstTokenAt: NOW, lastTokenAt: NOW },
  };
  const pausing = pausedOf([shallow, ...free(12, 10)]).length;
  t.ok(pausing > 0 && pausing < 12, `${pausing} of 12`);
  t.strictSame(pausedOf([shallow, ...free(2, 30)]), [], 'the second one brings no layers of its own');
});

void t.test('a row without a budget gets its share, but not of what was promised before it came', async (t) => {
  const free = (lastTokenAt: number): SequenceState => ({ ...decoding('free', 30, {}), budget: null, lastTokenAt });
  const tight = (arrivedAt: number): SequenceState => ({
    ...{ ...decoding('tight', 10, { totalMs: NOW + 280 - arrivedAt }), arrivedAt },
    ...{ firstTokenAt: NOW, lastTokenAt: NOW },
  });
  t.strictSame(pausedOf([tight(NOW), free(NOW)]), ['free'], 'it had its turn');
  t.strictSame(pausedOf([tight(NOW), free(NOW - 200)]), [], 'it is its turn');
  t.strictSame(pausedOf([tight(-1), free(NOW - 200)]), ['free']);
});

void t.test('who rests comes back only with time to spare: coming and going moves slots', async (t) => {
  const resting = (tpotMs: number, lastTokenAt: number): number =>
    pausedOf([...loose.map((each) => ({ ...each, lastTokenAt })), decoding('paced', 10, { tpotMs })]).length;
  let tpotMs = 8;
  while (resting(tpotMs, NOW) > 0) tpotMs += 0.1;
  t.ok(resting(tpotMs, NOW - 50) > 0, `at ${tpotMs} ms a token`);
  t.equal(resting(2 * tpotMs, NOW - 50), 0);
});
