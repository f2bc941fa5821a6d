/** Lines of a streamed answer break between words. */
import fc from 'fast-check';
import t from 'tap';
import { WordWrap } from '../../src/chat/wrap.js';

function wrapped(parts: readonly string[], columns: number): string {
  let text = '';
  const wrap = new WordWrap(
    (part) => (text += part),
    () => columns,
  );
  for (const part of parts) wrap.add(part);
  wrap.flush();
  return text;
}

void t.test('a word that does not fit begins the next line, wherever its tokens end', (t) => {
  t.equal(wrapped(['The sky is bl', 'ue be', 'cause of light.'], 14), 'The sky is \nblue because \nof light.');
  t.equal(wrapped(['one\n\ntwo three'], 8), 'one\n\ntwo \nthree');
  t.equal(wrapped(['ab cd'], 3), 'ab\ncd', 'a space at the edge becomes the break');
  t.equal(wrapped(['天空是蓝色的'], 6), '天空是\n蓝色的');
  t.end();
});

void t.test('no line is wider than the terminal, and no word is lost or divided', (t) => {
  const word = fc.stringMatching(/^[a-z]{1,9}$/);
  fc.assert(
    fc.property(
      fc.array(word, { maxLength: 40 }),
      fc.integer({ min: 10, max: 40 }),
      fc.integer({ min: 1, max: 7 }),
      (words, columns, size) => {
        const text = words.join(' ');
        const parts = text.match(new RegExp(`.{1,${size}}`, 'g')) ?? [];
        const shown = wrapped(parts, columns);
        return (
          shown.split('\n').every((line) => line.length <= columns) && shown.split(/\s+/).join(' ').trim() === text
        );
      },
    ),
  );
  t.end();
});

void t.test('each part of a word keeps its style', (t) => {
  let text = '';
  const wrap = new WordWrap(
    (part) => (text += part),
    () => 5,
  );
  wrap.add('abc de', (part) => `<${part}>`);
  wrap.add('f', (part) => `[${part}]`);
  wrap.flush();
  t.equal(text, '<abc> \n<de>[f]');
  t.end();
});
