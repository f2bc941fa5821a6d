/** The lengths of sentences that landings count on. */
import t from 'tap';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { SentenceLength, SentenceState } from '../../src/engine/scheduler/sentence-length.js';

/** An answer with sentences of these lengths; the last one is cut where it is negative. */
function write(
  learnt: SentenceLength,
  lengths: readonly number[],
  owner = 'a',
  kind: 'chat' | 'schema' = 'chat',
): void {
  const sentence = new SentenceState();
  for (const length of lengths) {
    for (let i = 1; i < Math.abs(length); i++) sentence.read(false);
    if (length > 0) sentence.read(true);
  }
  learnt.observe(sentence, kind, owner);
}

void t.test('the lengths of sentences are learnt, the first of an answer apart', async (t) => {
  const learnt = new SentenceLength(defaultPolicy);
  const known = () => [learnt.first('chat', 'a'), learnt.next('chat', 'a')] as const;
  t.strictSame(known(), [24, 24]);
  for (let i = 0; i < 400; i++) write(learnt, [5 + (i % 10), 20 + ((i * 7) % 40), 20 + ((i * 13) % 40)]);
  const [first, next] = known();
  t.ok(first > 11 && first < 18, `first ${first}`);
  t.ok(next > 44 && next < 62, `next ${next}`);
});

void t.test('sentences without an end count as long as they are', async (t) => {
  const learnt = new SentenceLength(defaultPolicy);
  for (let i = 0; i < 100; i++) write(learnt, [3, -90]);
  const next = learnt.next('chat', 'a');
  t.ok(next > 80 && next < 110, `next ${next}`);
});

void t.test('an answer counts once, however many sentences it has', async (t) => {
  const learnt = new SentenceLength(defaultPolicy);
  for (let i = 0; i < 30; i++) write(learnt, [10, 30]);
  const before = learnt.next('chat', 'a');
  write(learnt, new Array<number>(250).fill(2));
  const after = learnt.next('chat', 'a');
  t.ok(after > 0.9 * before, `${before}, then ${after}`);
});

for (const [title, lengths] of [
  ['4,430 tokens: a mark, then none', [3, -4400]],
  ['no mark', [-4366]],
  ['"Go. Go. Go."', new Array<number>(200).fill(2)],
] as const) {
  void t.test(`answers of one tenant move the sentences of another one by less than a tenth: ${title}`, async (t) => {
    const learnt = new SentenceLength(defaultPolicy);
    for (let i = 0; i < 6; i++) write(learnt, [12, 15, 18], 'other');
    const known = () => [learnt.first('chat', 'other'), learnt.next('chat', 'other')] as const;
    const before = known();
    const fresh = learnt.first('chat', 'new');
    for (let i = 0; i < 64; i++) write(learnt, lengths, 'attacker');
    for (const [i, tokens] of known().entries())
      t.ok(Math.abs(tokens / (before[i] ?? 0) - 1) < 0.1, `${before[i]}, then ${tokens}`);
    t.ok(Math.abs(learnt.first('chat', 'new') / fresh - 1) < 0.1, 'a tenant without answers');
    t.ok(Math.abs(learnt.next('schema', 'other') / 24 - 1) < 0.1, 'another kind');
  });
}

void t.test('a tenant with few answers counts on them soon', async (t) => {
  const learnt = new SentenceLength(defaultPolicy);
  for (let i = 0; i < 20; i++) write(learnt, [60, 60]);
  t.ok(learnt.first('chat', 'a') > 50, `${learnt.first('chat', 'a')}`);
});
