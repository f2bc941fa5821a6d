/** Where a text may end: sentences of many languages, lists, code fences, quotations. */
import t from 'tap';
import { continuesSentence, kindOf } from '../../../src/gateway/text/sentences/markdown-scanner.js';
import { SentenceScanner } from '../../../src/gateway/text/sentences/sentence-scanner.js';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Whether a text may end behind its last character. */
function endOf(text: string): string {
  const place = new SentenceScanner();
  place.read(bytes(text));
  return place.mayEnd;
}

/** The prefixes of a text behind which it may end freely. */
function ends(text: string): string[] {
  const place = new SentenceScanner();
  return Array.from(text).flatMap((character, i, all) => {
    place.read(bytes(character));
    return place.mayEnd === 'free' ? [all.slice(0, i + 1).join('')] : [];
  });
}

const CASES: readonly [title: string, end: string, texts: readonly string[]][] = [
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

for (const [title, end, texts] of CASES)
  void t.test(title, async (t) => {
    for (const text of texts) await t.test(JSON.stringify(text), async (t) => void t.equal(endOf(text), end));
  });

void t.test('behind a list or a code fence, a text ends as elsewhere', async (t) => {
  t.strictSame(ends('1. One.\n2. Two.\n\nThat is all.'), ['1. One.\n2. Two.\n\nThat is all.']);
  t.strictSame(ends('- One.\nAll of it.'), ['- One.\nAll of it.']);
  const code = 'See:\n```js\nf(x.y.);\n```';
  t.strictSame(ends(`${code}\nDone`), [code]);
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
