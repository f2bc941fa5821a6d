/** The lengths of sentences that landings count on. */
import t from 'tap';
import { defaultPolicy } from '../../src/scheduler/policy.js';
import { SentenceLength, SentenceState } from '../../src/scheduler/sentence-length.js';

/** Sentences of these lengths, as an answer; the last one is cut where it is negative. */
function write(learnt: SentenceLength, lengths: readonly number[]): void {
  const sentence = new SentenceState();
  for (const length of lengths) {
    for (let i = 1; i < Math.abs(length); i++) learnt.learn(sentence, false);
    if (length > 0) learnt.learn(sentence, true);
  }
}

void t.test('the engine learns how long sentences are, the first of an answer apart', async (t) => {
  const learnt = new SentenceLength(defaultPolicy);
  t.strictSame([learnt.first, learnt.next], [24, 24]);
  for (let i = 0; i < 400; i++) write(learnt, [5 + (i % 10), 20 + ((i * 7) % 40), 20 + ((i * 13) % 40)]);
  t.ok(learnt.first > 11 && learnt.first < 16, `first ${learnt.first}`);
  t.ok(learnt.next > 48 && learnt.next < 62, `next ${learnt.next}`);
});

void t.test('sentences without an end count as long as they are', async (t) => {
  const learnt = new SentenceLength(defaultPolicy);
  for (let i = 0; i < 100; i++) write(learnt, [3, -90]);
  t.ok(learnt.next > 80 && learnt.next < 110, `next ${learnt.next}`);
});
