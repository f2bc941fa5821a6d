/** Places where sentences have ended, in texts that grow by parts. */
import t from 'tap';
import { SentenceEnds, wayBack } from '../../../src/gateway/text/sentences/sentence-ends.js';

/** @returns the text up to the last certain end, and up to the last end if the text is over */
function ends(text: string, step: number): [string, string] {
  const places = new SentenceEnds();
  const characters = Array.from(text);
  for (let at = 0; at < characters.length; at += step) places.add(characters.slice(at, at + step).join(''));
  return [text.slice(0, places.last), text.slice(0, places.lastIfOver)];
}

const CASES: readonly (readonly [name: string, text: string, last: string, ifOver?: string])[] = [
  ['nothing', '', ''],
  ['half a sentence', 'The capital of', ''],
  ['a mark at the end may go on', 'It is Paris.', '', 'It is Paris.'],
  ['a blank does not decide', 'It is Paris. ', '', 'It is Paris.'],
  ['the next sentence decides', 'It is Paris. It', 'It is Paris.'],
  ['a decimal goes on', 'Pi is 3.14', ''],
  ['an abbreviation goes on', 'Use e.g. this', ''],
  ['a line end decides', 'It is Paris.\n', 'It is Paris.'],
  ['other scripts', 'パリです。次', 'パリです。'],
  ['a quotation in a line', 'He said "Yes. I', ''],
  ['a closed quotation', 'He said "Yes." Then', 'He said "Yes."'],
  ['items of a list', '- One.\n- Two.\n- Thr', '- One.\n- Two.'],
  ['a title', 'Answer\nIt is', 'Answer\n'],
  ['a line that goes on', 'There are:\nIt', ''],
  ['inside of a fence', 'So:\n```js\nf(x). Then\n', ''],
  ['a closed fence', 'So:\n```js\nf(x)\n```\nThen', 'So:\n```js\nf(x)\n```'],
  ['an emoji', 'Hi! 👋 It', 'Hi!'],
  ['blanks and a word in lower case', 'Use e.g.   this', ''],
];

for (const [name, text, last, ifOver = last] of CASES) {
  void t.test(name, (t) => {
    for (const step of [1, 3, 100]) t.same(ends(text, step), [last, ifOver], `parts of ${step}`);
    t.end();
  });
}

// The place to which a text without an end of its own goes back.
for (const [text, kept] of [
  ['No, a tomato is not a fruit. While both are red, they', 'No, a tomato is not a fruit.'],
  ['One. Two! Three', 'One. Two!'],
  ['A whole sentence.', 'A whole sentence.'],
  ['He said "Go." Then he', 'He said "Go."'],
  ['Pi is 3.14 and so', ''],
  ['It costs 3.', ''],
  ['Ask Dr. Who', ''],
  ['The sky is blue because of', ''],
  ['Dear Sir,\n\nI', ''],
  ['', ''],
  ['\u5929\u7a7a\u662f\u84dd\u8272\u7684\u3002\u56e0\u4e3a', '\u5929\u7a7a\u662f\u84dd\u8272\u7684\u3002'],
  ['Fruits:\n1. Apples\n2. Bananas\n3. Che', 'Fruits:\n1. Apples\n2. Bananas'],
  ['- Eat less.\n- Sleep mo', '- Eat less.'],
  ['| a | b |\n| - | - |\n| 1', ''],
  ['{\n  "a": 1\n}\n\nObject:\n{\n  "b": 2\n', '{\n  "a": 1\n}'],
  ['| a | b |\n| - | - |\n| 1 | 2 |\n| 3', '| a | b |\n| - | - |\n| 1 | 2 |'],
  ['So:\n```js\nf();\n```\nThis calls', 'So:\n```js\nf();\n```'],
  ['Use it. So:\n```js\nf();\ng(', 'Use it. So:\n```js\nf();\n```'],
  ['Use it. So:\n```js\nf(', 'Use it.'],
  ['~~~~py\ndef f(n):\n    return n\n\ndef g(n):\n', '~~~~py\ndef f(n):\n    return n\n~~~~'],
  ['```\na = 1\n```\nThen ```b', '```\na = 1\n```'],
  ['# Title\n\nText', ''],
] as const)
  void t.test(`${JSON.stringify(text)} goes back to ${JSON.stringify(kept)}`, async (t) => {
    const { length, closing } = wayBack(text);
    t.equal(text.slice(0, length) + closing, kept);
  });
