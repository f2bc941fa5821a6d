/** The everyday requests, the score of their answers, and the worth of shorter ones. */
import t from 'tap';
import { courseOf, keptCurve, worthWithin } from '../../bench/everyday/kept.js';
import { type CheckedRequest, isChecked, readRequests, REQUESTS } from '../../bench/everyday/requests.js';
import { score } from '../../bench/everyday/score.js';

void t.test('both halves have as many requests of each kind, 120 and more with a check', (t) => {
  const all = readRequests(REQUESTS);
  t.equal(new Set(all.map(({ request }) => request)).size, all.length);
  t.ok(all.filter(isChecked).length >= 120);
  const kinds = [...new Set(all.map(({ kind }) => kind))];
  for (const kind of kinds) {
    const [tuning, heldOut] = ['tuning', 'held-out'].map((name) =>
      all.filter(({ half, ...each }) => half === name && each.kind === kind).map(isChecked),
    );
    t.strictSame(tuning, heldOut, kind);
  }
  for (const { request, right = [], least = 1 } of all) t.ok(right.length >= least || right.length === 0, request);
  t.end();
});

const asking = (fields: Partial<CheckedRequest>): CheckedRequest => ({
  ...{ half: 'tuning', kind: 'fact', request: 'A question.', right: ['Paris'] },
  ...fields,
});

void t.test('a fact is a whole word in any case, and no denied one', (t) => {
  const fact = asking({ right: ['Paris', 'H2O'] });
  for (const text of ['It is PARIS, of course.', '(Paris)', 'Not Rome, but Paris.', 'h2o'])
    t.equal(score(fact, text), 1);
  for (const text of ['', 'Parisian', 'comparison', "It isn't Paris.", 'It is not Paris.', 'H2O2'])
    t.equal(score(fact, text), 0, text);
  t.end();
});

void t.test('a number is no part of a longer number', (t) => {
  const sum = asking({ kind: 'arithmetic', right: ['12', 'twelve'] });
  for (const text of ['5 + 7 = 12.', '12', 'Twelve!', 'It is 12, friend.']) t.equal(score(sum, text), 1, text);
  for (const text of ['120', '12.5', '5,12', '3.12', '1,120', '11']) t.equal(score(sum, text), 0, text);
  t.end();
});

void t.test('a list has the share of the items that are asked for, each once, and no more than all', (t) => {
  const list = asking({ kind: 'list', right: ['apple', 'pear', ['cherry', 'cherries'], 'Rio Grande'], least: 3 });
  t.equal(score(list, 'An apple and two apples.'), 1 / 3);
  t.equal(score(list, 'Apples, a cherry and cherries.'), 2 / 3);
  t.equal(score(list, '1. Apple\n2. Pear\n3. Rio Grande\n4. Cherry'), 1);
  t.equal(score(list, 'Pearl, pineapple.'), 0);
  t.end();
});

void t.test('an explanation has the share of its points', (t) => {
  const points = asking({ kind: 'explanation', right: [['magma', 'lava'], ['erupt', 'erupts'], 'mountain'], least: 3 });
  t.equal(score(points, 'A mountain that erupts with lava and magma.'), 1);
  t.equal(score(points, 'A mountain of lava.'), 2 / 3);
  t.equal(score(points, 'A large fish.'), 0);
  t.end();
});

void t.test('a right answer in another form than the asked one has half of its score', async (t) => {
  const cases: [Partial<CheckedRequest>, text: string, number][] = [
    [{ form: 'yes-no', right: ['yes'] }, 'Yes, it is. There is no doubt.', 1],
    [{ form: 'yes-no', right: ['yes'] }, 'The answer is yes.', 0.5],
    [{ form: 'yes-no', right: ['yes'] }, 'No. Yes.', 0],
    [{ form: 'yes-no', right: ['no'] }, 'I know that it is nothing.', 0],
    [{ form: 'one-word' }, ' "Paris." ', 1],
    [{ form: 'one-word' }, 'It is Paris.', 0.5],
    [{ form: 'number', right: ['8'] }, '8.', 1],
    [{ form: 'number', right: ['8'] }, '3 + 5 = 8', 0.5],
    [{ form: 'commas', right: ['red', 'blue', 'pink'], least: 3 }, 'Red, blue and pink.', 1],
    [{ form: 'commas', right: ['red', 'blue', 'pink'], least: 3 }, 'Red\nblue\npink', 0.5],
    [{ form: 'one-sentence' }, 'Paris is a city.', 1],
    [{ form: 'one-sentence' }, 'Paris is a city. It is old.', 0.5],
    [{ form: 'numbered', right: ['hat', 'towel'], least: 2 }, '1. A hat\n2. A towel', 1],
    [{ form: 'numbered', right: ['hat', 'towel'], least: 2 }, 'A hat and a towel.', 0.5],
    [{ form: 'bullets', right: ['milk', 'cheese'], least: 2 }, 'Here:\n- milk\n* cheese', 1],
    [{ form: 'bullets', right: ['milk', 'cheese'], least: 2 }, '1. milk\n2. cheese', 0.5],
  ];
  for (const [fields, text, expected] of cases)
    await t.test(`${fields.form}: ${text}`, async (t) => void t.equal(score(asking(fields), text), expected));
});

void t.test('the curve has the worth of answers that end at their last sentence within so many tokens', (t) => {
  const words = (text: string): number => text.split(/\s+/).filter((word) => word !== '').length;
  const list = asking({ right: ['red', 'blue'], least: 2 });
  const courses = [
    courseOf('It is Paris. It is old.', (text) => score(asking({}), text), words),
    courseOf('Hello. The colors are red. And here blue.', (text) => score(list, text), words),
    courseOf('No idea.', (text) => score(asking({}), text), words),
  ];
  const allEnds = courses.map(({ ends }) => ends.flat());
  t.strictSame(allEnds, [
    [3, 1, 6, 1],
    [1, 0, 5, 0.5, 8, 1],
    [2, 0],
  ]);
  const got = [0, 2, 3, 5, 7, 8, 99].map((tokens) => worthWithin(tokens, courses));
  t.strictSame(got, [0, 0, 0.5, 0.75, 0.75, 1, 1]);
  const curve = keptCurve(courses);
  t.strictSame(curve.flat(), [0, 0, 3, 0.5, 5, 0.75, 8, 1]);
  const ends = [2, 4].map((tokens, i) => [tokens, 1 / (i + 1)] as const);
  t.equal(worthWithin(2, [{ ends }]), 1, 'a shorter answer is worth no more than the whole one');
  for (const none of [[], [courseOf('No.', () => 0, words)]])
    t.throws(() => keptCurve(none), { message: 'kept: no whole answer has a score' });
  t.end();
});
