/** Thoughts apart from the text of an answer, however its tags are cut. */
import fc from 'fast-check';
import t from 'tap';
import { endsInThoughts, ThoughtReader, thoughtTags, type ThoughtTags } from '../../src/gateway/text/thoughts.js';

const THINK: ThoughtTags = { open: '<think>', close: '</think>' };

/** Reads an answer in pieces. */
function read(pieces: readonly string[], isOpen = false): { thoughts: string; text: string } {
  const reader = new ThoughtReader(THINK, isOpen);
  const parts = [...pieces.map((piece) => reader.push(piece)), reader.end()];
  return { thoughts: parts.map((part) => part.thoughts).join(''), text: parts.map((part) => part.text).join('') };
}

void t.test('thoughts, their tags and the space around them leave the text', async (t) => {
  const cases: [answer: string, isOpen: boolean, thoughts: string, text: string][] = [
    ['<think>\nHm.\n</think>\n\nParis.', false, 'Hm.', 'Paris.'],
    ['\n<think>Hm.</think>Paris.', false, 'Hm.', 'Paris.'],
    ['<think>\n\n</think>\n\nParis.', false, '', 'Paris.'],
    ['Hm.\n\nHm!\n</think>\n\n Paris.\n', true, 'Hm.\n\nHm!', 'Paris.\n'],
    ['Paris <think> is </think> a city.', false, '', 'Paris <think> is </think> a city.'],
    [' Paris', false, '', ' Paris'],
    ['<thin', false, '', '<thin'],
    ['', false, '', ''],
    ['<think>Hm, no end \n', false, 'Hm, no end', ''],
    ['<think>Hm </thin', false, 'Hm </thin', ''],
    ['<think>a <think> b </think> c </think> d', false, 'a <think> b', 'c </think> d'],
    ['<think>a</think>', false, 'a', ''],
    ['a </th> b</think>c', true, 'a </th> b', 'c'],
  ];
  for (const [answer, isOpen, thoughts, text] of cases)
    await t.test(JSON.stringify(answer), async (t) => {
      t.same(read([answer], isOpen), { thoughts, text });
      t.same(read(Array.from(answer), isOpen), { thoughts, text }, 'by characters');
    });
});

void t.test('the cuts of an answer change nothing', (t) => {
  const part = fc.constantFrom('<think>', '</think>', '<', '</', 'think>', ' ', '\n', 'a', 'bc', '>');
  const answer = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(answer, fc.boolean(), fc.array(fc.nat(60), { maxLength: 8 }), (text, isOpen, cuts) => {
      const places = [0, ...cuts.map((cut) => Math.min(cut, text.length)).sort((a, b) => a - b), text.length];
      const pieces = places.slice(1).map((place, index) => text.slice(places[index], place));
      const [whole, cut] = [read([text], isOpen), read(pieces, isOpen)];
      return whole.thoughts === cut.thoughts && whole.text === cut.text;
    }),
  );
  t.end();
});

void t.test('thoughts are shown as they come, and only a beginning of a tag is held back', (t) => {
  const reader = new ThoughtReader(THINK, true);
  const shown = ['One ', 'two <', '/b ', '</thi', 'nk>\n', '\nSo'].map((piece) => reader.push(piece));
  const thoughtsOnly = shown.map(({ thoughts }) => thoughts);
  t.same(thoughtsOnly, ['One', ' two', ' </b', '', '', '']);
  t.same(shown.at(-1), { thoughts: '', text: 'So' });
  t.end();
});

void t.test('tags are found in a template, and open ones at the end of a text', (t) => {
  t.same(thoughtTags("{%- if '</think>' in content %}"), THINK);
  t.same(thoughtTags('[THINK]{{ x }}[/THINK]'), { open: '[THINK]', close: '[/THINK]' });
  t.equal(thoughtTags('{{ messages }}'), null);
  t.equal(endsInThoughts(THINK, '<think>a</think><think>b'), true);
  t.equal(endsInThoughts(THINK, '<think>a</think>b'), false);
  t.equal(endsInThoughts(THINK, 'b'), false);
  t.end();
});
