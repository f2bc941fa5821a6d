/** The long prompts of bench:goodput, and the accuracy of exits by their lengths. */
import t from 'tap';
import { score } from '../../bench/everyday/score.js';
import { passages } from '../../bench/goodput/passages.js';
import { pointsOf, withPromptAccuracies } from '../../bench/goodput/prompt-accuracy.js';

void t.test('a passage has 300 to 1,500 tokens, and its answer in one sentence', async (t) => {
  const all = passages('held-out', 120);
  t.equal(new Set(all.map(({ request }) => request)).size, 120);
  const words = all.map(({ request }) => request.split(' ').length);
  t.ok(Math.min(...words) >= 190 && Math.max(...words) <= 1000, `${Math.min(...words)} to ${Math.max(...words)} words`);
  t.ok(words.filter((count) => count > 600).length > 20 && words.filter((count) => count < 300).length > 20);
  for (const check of all) {
    const { request: text } = check;
    const [answer] = check.right;
    const sentences = text.split('\n\n')[1]?.split(/(?<=\.) /) ?? [];
    t.equal(sentences.filter((sentence) => score(check, sentence) === 1).length, 1, `${String(answer)}: ${text}`);
    t.equal(score(check, text.split('\n\n')[2] ?? ''), 0, 'the question does not tell it');
  }
});

void t.test('a seed gives the same passages, and the halves share none', async (t) => {
  t.strictSame(passages('tuning', 20), passages('tuning', 20));
  const tuning = new Set(passages('tuning', 120).map(({ request }) => request));
  t.notOk(passages('held-out', 120).some(({ request }) => tuning.has(request)));
});

void t.test('the accuracy is a share of full depth, by length', async (t) => {
  const scored = [300, 100, 200, 400].map((tokens, i) => ({ tokens, full: 1, early: i % 2 }));
  const points = pointsOf([...scored, { tokens: 350, full: 0.5, early: 1 }], 2);
  t.strictSame(points.flat(), [150, 0.5, 350, 0.8]);
  t.throws(() => pointsOf([{ tokens: 1, full: 0, early: 1 }], 1), /no right answer to 1 passages/);
});

void t.test('it goes into the manifest beside other figures', async (t) => {
  const exits = [
    { layer: 15, quality: { kl: 0.6, accuracy: 0.5 } },
    { layer: 30, quality: { kl: 0.1 } },
  ];
  const points: [number, number][] = [
    [40, 0.5],
    [300, 0.1],
  ];
  const text = JSON.stringify({ name: 'm', exits, prompt: { layer: 30, quality: { kl: 0.1 } } });
  const [early, full] = exits;
  t.strictSame(JSON.parse(withPromptAccuracies(text, new Map([[15, points]]))), {
    name: 'm',
    exits: [{ layer: 15, quality: { ...early?.quality, accuracyByPrompt: points } }, full],
    prompt: { layer: 30, quality: { kl: 0.1 } },
  });
});
