/** Places where sentences have ended, in texts that grow by parts. */
import t from 'tap';
import { OpenText, SentenceEnds } from '../../src/gateway/text/sentences/sentence-ends.js';
import { continuesSentence, kindOf } from '../../src/gateway/text/sentences/markdown-scanner.js';
import { SentenceScanner } from '../../src/gateway/text/sentences/sentence-scanner.js';

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
    const open = new OpenText();
    open.push(text, 'all');
    const back = open.back();
    t.equal(`${back?.text ?? ''}${back?.closing ?? ''}`, kept);
  });

// Where a text may end: sentences of many languages, lists, code fences, quotations.

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Whether a text may end behind its last character. */
function endOf(text: string): string {
  const place = new SentenceScanner();
  place.read(bytes(text));
  return place.mayEnd;
}

/** The prefixes of a text behind which it may end freely. */
function endsOfScan(text: string): string[] {
  const place = new SentenceScanner();
  return Array.from(text).flatMap((character, i, all) => {
    place.read(bytes(character));
    return place.mayEnd === 'free' ? [all.slice(0, i + 1).join('')] : [];
  });
}

const SCANS: readonly [title: string, end: string, texts: readonly string[]][] = [
  [
    'a sentence ends behind its closing mark, in any script',
    'free',
    [
      ...['It is Paris.', 'Is it?', 'Yes!', 'Well…', 'Wait...', 'What?!', 'In 1889.', "It's.", 'Он жив.'],
      ...['Yes. ', '東京です。', '真的吗？', '好！', '「はい。」', 'هل هذا صحيح؟', 'یہ درست ہے۔', 'यह सच है।', 'श्लोक॥'],
      ...['Դա ճիշտ է։', 'ያ ነው።', 'မှန်တယ်။', 'Yes.\n', 'Yes.\n\n', '(It is.)', '"Yes."', '“Yes.”', '„Ja.“'],
      ...['«Oui.»', '**Yes.**', 'It is `x`.', '[It is.]', 'It works (mostly).', "Say 'yes.'"],
    ],
  ],
  [
    'no sentence ends in its middle',
    'no',
    [
      ...['', ' ', '\n', 'It is', 'It is,', 'It is Paris. The', 'It is: ', 'U.S.', 'e.g.', 'J. R. R.'],
      ...['Mr.', 'Dr.', 'vs.', '1.', '1. ', '  12)', '- ', '* ', '**1.', '# What is it?'],
      ...['# What is it?\n', '## A.\n\n', 'Three steps:\n', 'A light,\n', 'A light;\n\n', 'Yes. "'],
      ...['| a. |', '| a. |\n', '| a |\n| - |\n', '{\n', '{\n  "a": "It is."\n', '[\n  1\n', '{\n  "a": [1]\n'],
      ...['Yes. (', '```', '```\nx.', '```js\nx.\n', '~~~\nyes.\n\nno.\n', '````\n```\n', '```\n```x'],
    ],
  ],
  [
    'only a deadline ends a text inside of lists, quotations, brackets and behind bare lines',
    'line_break',
    [
      ...['1. One.', '1. One.\n', '- One\n', '* One.\n\n', '• One\n  Two.', '**1. Title** One.'],
      ...['1. One\n\n   More.\n\n', '"Yes. No.', '(It is.', '“Yes. No.', '**It is.', 'Call `ab.'],
      ...['A title\n', 'A title\n\n', '1. ```\nx\n```', '| a |\n| - |\n| 1. |\n', '{\n  "a": 1\n}\n', '{}\n', '[1]\n'],
      ...['{\n  "a": [\n    1\n  ]\n}\n'],
    ],
  ],
];

for (const [title, end, texts] of SCANS)
  void t.test(title, async (t) => {
    for (const text of texts) await t.test(JSON.stringify(text), async (t) => void t.equal(endOf(text), end));
  });

void t.test('behind a list or a code fence, a text ends as elsewhere', async (t) => {
  t.strictSame(endsOfScan('1. One.\n2. Two.\n\nThat is all.'), ['1. One.\n2. Two.\n\nThat is all.']);
  t.strictSame(endsOfScan('- One.\nAll of it.'), ['- One.\nAll of it.']);
  const code = 'See:\n```js\nf(x.y.);\n```';
  t.strictSame(endsOfScan(`${code}\nDone`), [code]);
  t.equal(endOf(`${code}\n`), 'free');
  t.equal(endOf('```code``` is. It is.'), 'free', 'marks inside of a line are no fence');
  t.equal(endOf('3.14 is it.'), 'free', 'a number is no list');
  t.equal(endOf('2023 was it.'), 'free');
});

void t.test('characters may be split over tokens, and no text ends inside of one', async (t) => {
  const place = new SentenceScanner();
  const [first = 0, ...others] = bytes('।');
  place.read(bytes('सच'));
  place.read(Uint8Array.of(first));
  t.equal(place.mayEnd, 'no');
  const copy = place.copy();
  place.read(Uint8Array.from(others));
  t.equal(place.mayEnd, 'free');
  t.equal(copy.mayEnd, 'no', 'a copy is its own');
  copy.read(bytes('a.'));
  t.equal(copy.mayEnd, 'free', 'a broken character is dropped');
  place.read(Uint8Array.of(0xff, 0x80, 0xbf, 0xf7, 0xbf, 0xbf, 0xbf));
  t.equal(place.mayEnd, 'no', 'bytes that are no UTF-8 are some character');
});

void t.test('a mark inside of a number or an address shows by the text behind it', async (t) => {
  for (const next of ['14', 'com', 'S', ' and', ' é', ',', '"', '..', '`'])
    t.ok(continuesSentence(next), JSON.stringify(next));
  for (const next of [' The', '\n', '\n\n', ' ', '', ' "', ' 3', '你', ' Ü', '\ufffd', '\nand'])
    t.notOk(continuesSentence(next), JSON.stringify(next));
  const place = new SentenceScanner();
  place.read(bytes('It is 3.'));
  t.ok(place.isAmbiguous);
  place.read(bytes('\n'));
  t.notOk(place.isAmbiguous, 'a line has ended');
  place.read(bytes('好。'));
  t.notOk(place.isAmbiguous);
});

void t.test('a token of blanks behind an end is no further end', async (t) => {
  const place = new SentenceScanner();
  const read = (text: string): string => {
    place.read(bytes(text));
    return place.mayEnd;
  };
  t.strictSame(['Yes', '.', '"', '\n', '\n', '', 'No', '.\n\n', ' ', 'A title\n', '\n'].map(read), [
    ...['no', 'free', 'line_break', 'no', 'no', 'no', 'no', 'free', 'no', 'line_break', 'no'],
  ]);
});

void t.test('kinds of characters', async (t) => {
  t.same(
    Array.from('.a1 \n("）•', (character) => kindOf(character.codePointAt(0) ?? 0)),
    [...['mark', 'letter', 'digit', 'blank', 'newline', 'opener', 'quote', 'closer', 'other']],
  );
});
