/** Held pieces, for texts in any parts and holds in any order: no character twice, none taken back. */
import fc from 'fast-check';
import t from 'tap';
import type { Piece } from '../../src/gateway/api/generation/choice.js';
import { readChunk } from '../../src/gateway/upstream/chunk.js';
import { HeldAnswer, type Hold } from '../../src/gateway/upstream/held-answer.js';
import { withTexts } from '../../src/gateway/upstream/json-fields.js';

const word = fc.constantFrom(
  'One',
  ' is',
  ' here',
  '.',
  ' Two',
  '!',
  '\n',
  '- ',
  '"',
  ' 3.5',
  '。',
  ' 👋',
  '```\n',
  ' ',
  '',
);
const part = fc.record({
  text: fc.array(word, { maxLength: 4 }).map((words) => words.join('')),
  hold: fc.constantFrom<Hold>('none', 'sentence', 'all'),
});

function add(held: HeldAnswer, text: string, hold: Hold): void {
  const data = JSON.stringify({ choices: [{ index: 0, delta: { content: text } }] });
  for (const piece of readChunk(data).pieces) held.add(piece, hold);
}

void t.test('the sent text is a beginning of the text, and grows', (t) => {
  fc.assert(
    fc.property(fc.array(part, { maxLength: 20 }), (parts) => {
      const sent: Piece[] = [];
      const held = new HeldAnswer(1, (piece) => sent.push(piece));
      const said = (): string => sent.map((piece) => ('text' in piece ? piece.text : '')).join('');
      const whole = parts.map(({ text }) => text).join('');
      for (const { text, hold } of parts) {
        const before = said();
        add(held, text, hold);
        if (!said().startsWith(before)) return false;
      }
      const seen = said();
      const landed = held.landed();
      const ends = /[.!。"\n`]\s*$/u.test(said()) || landed?.end !== 'landed';
      return whole.startsWith(said()) && said().startsWith(seen) && (said() === '') === (landed === null) && ends;
    }),
  );
  t.pass();
  t.end();
});

void t.test('a space behind a sentence that went out takes nothing of it', (t) => {
  const landed = (text: string) => {
    const held = new HeldAnswer(1, () => undefined);
    add(held, text, 'none');
    return [held.landed()?.end, held.sent];
  };
  t.same(landed('Water is wet. '), ['landed', 14]);
  t.same(landed('Water is wet. It'), ['cut', 16]);
  t.end();
});

void t.test('texts at the top of a JSON change, and no other byte', (t) => {
  const cases = [
    ['{"id":"a"}', '{"id":"b"}'],
    ['{ "x":{"id":"a"},"id" : "a\\"" }', '{ "x":{"id":"a"},"id" : "b" }'],
    ['{"a":"id","id":null}', '{"a":"id","id":null}'],
    ['{"a":["id","id"],"id":"\\\\"}', '{"a":["id","id"],"id":"b"}'],
    ['[{"id":"a"}]', '[{"id":"a"}]'],
    ['{"id":"c","id":"d"}', '{"id":"b","id":"b"}'],
    ['{"constructor":"a"}', '{"constructor":"a"}'],
    ['"id', '"id'],
    ['', ''],
  ] as const;
  for (const [before, after] of cases) t.equal(withTexts(before, { id: 'b' }), after);
  t.end();
});
