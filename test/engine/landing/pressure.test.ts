/** End pressure by time and place, and the lengths of sentences that it counts on. */
import t from 'tap';
import { endPressure, LANDING, thoughtsEnd } from '../../../src/engine/landing/pressure.js';
import { SentenceTokens } from '../../../src/scheduler/sentence-length.js';
import { TextState } from '../../../src/engine/landing/text-state.js';

const landing = { opensAt: 1000, endsAt: 2000, tokenMs: 10 };
/** With 24 tokens to the next end, the last one is 25 steps before the deadline. */
const LAST = 1750;

void t.test('pressure rises through the window, and the last end is forced', async (t) => {
  const at = (now: number): number => endPressure(landing, now, 'free', 24);
  t.strictSame([0, 999, 1000].map(at), [0, 0, 0]);
  const rising = [1001, 1200, 1500, LAST - 1].map(at);
  t.ok(
    rising.every((amount, i) => amount > (rising[i - 1] ?? 0) && amount < LANDING.most),
    rising.join(' '),
  );
  t.strictSame([LAST, 1999, 9999].map(at), [LANDING.forced, LANDING.forced, LANDING.forced]);
  t.equal(endPressure(landing, 1749, 'forced', 24), 0, 'a list ends by force only');
  t.equal(endPressure(landing, LAST, 'forced', 24), LANDING.forced);
  t.equal(endPressure(landing, 9999, 'no', 24), 0);
});

void t.test('a budget below a sentence forces the first end in the window', async (t) => {
  t.equal(endPressure({ ...landing, tokenMs: 100 }, 1000, 'free', 24), 0);
  t.equal(endPressure({ ...landing, tokenMs: 100 }, 1001, 'free', 24), LANDING.forced);
  t.equal(endPressure({ opensAt: 5, endsAt: 5, tokenMs: 1 }, 9, 'free', 24), LANDING.forced);
});

void t.test('thoughts close half a window before the landing opens', async (t) => {
  t.notOk(thoughtsEnd(landing, 489));
  t.ok(thoughtsEnd(landing, 490));
});

/** Sentences of these lengths, as an answer; the last one is cut where it is negative. */
function write(learnt: SentenceTokens, lengths: readonly number[]): void {
  const text = new TextState();
  const read = (word: string): void => {
    text.place.read(new TextEncoder().encode(word));
    learnt.learn(text);
  };
  for (const length of lengths) {
    for (let i = 1; i < Math.abs(length); i++) read(' word');
    if (length > 0) read('.');
  }
}

void t.test('the engine learns how long sentences are, the first of an answer apart', async (t) => {
  const learnt = new SentenceTokens();
  t.strictSame([learnt.first, learnt.next], [LANDING.sentenceTokens, LANDING.sentenceTokens]);
  for (let i = 0; i < 400; i++) write(learnt, [5 + (i % 10), 20 + ((i * 7) % 40), 20 + ((i * 13) % 40)]);
  t.ok(learnt.first > 11 && learnt.first < 16, `first ${learnt.first}`);
  t.ok(learnt.next > 48 && learnt.next < 62, `next ${learnt.next}`);
});

void t.test('sentences without an end count as long as they are', async (t) => {
  const learnt = new SentenceTokens();
  for (let i = 0; i < 100; i++) write(learnt, [3, -90]);
  t.ok(learnt.next > 80 && learnt.next < 110, `next ${learnt.next}`);
});
