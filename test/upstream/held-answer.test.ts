/** Held chunks, for texts in any parts and holds in any order: no character twice, none taken back. */
import fc from 'fast-check';
import t from 'tap';
import { type Chunk, readChunk } from '../../src/upstream/chunk.js';
import { HeldAnswer, type Hold } from '../../src/upstream/held-answer.js';
import { withField, withTexts } from '../../src/upstream/json-fields.js';
import { restOfBudget, upstreamOf, type UpstreamOptions } from '../../src/upstream/upstream.js';

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
  '',
);
const part = fc.record({
  text: fc.array(word, { maxLength: 4 }).map((words) => words.join('')),
  hold: fc.constantFrom<Hold>('none', 'sentence', 'all'),
});

void t.test('the sent text is a beginning of the text, and grows', (t) => {
  fc.assert(
    fc.property(fc.array(part, { maxLength: 20 }), (parts) => {
      const sent: Chunk[] = [];
      const held = new HeldAnswer((chunk) => sent.push(chunk));
      const said = (): string => sent.map(({ text }) => text).join('');
      const whole = parts.map(({ text }) => text).join('');
      for (const { text, hold } of parts) {
        const data = JSON.stringify({ choices: [{ index: 0, delta: { content: text } }] });
        const before = said();
        held.add(readChunk(data), hold);
        if (!said().startsWith(before)) return false;
      }
      const seen = said();
      const { length, isSentence } = held.cut();
      const ends = /[.!。"\n`]$/u.test(said()) || !isSentence;
      return whole.startsWith(said()) && said().startsWith(seen) && said().length === length && ends;
    }),
  );
  t.pass();
  t.end();
});

void t.test('texts at the top of a JSON change, and no other byte', (t) => {
  const cases = [
    ['{"id":"a"}', '{"id":"b"}'],
    ['{ "x":{"id":"a"},"id" : "a\\"" }', '{ "x":{"id":"a"},"id" : "b" }'],
    ['{"a":"id","id":null}', '{"a":"id","id":null}'],
    ['{"a":["id","id"],"id":"\\\\"}', '{"a":["id","id"],"id":"b"}'],
    ['[{"id":"a"}]', '[{"id":"a"}]'],
    ['"id', '"id'],
    ['', ''],
  ] as const;
  for (const [before, after] of cases) t.equal(withTexts(before, { id: 'b' }), after);
  t.equal(withField('{"a":1}', 'b', { c: 2 }), '{"a":1,"b":{"c":2}}');
  t.end();
});

void t.test('the options of an upstream', (t) => {
  const none: UpstreamOptions = {
    upstream: null,
    upstreamModel: null,
    upstreamKeyEnv: null,
    upstreamDeadlineHeader: 'X-Request-Ttl-Ms',
  };
  const all = { ...none, upstream: 'http://a/v1', upstreamModel: 'big', upstreamKeyEnv: 'KEY' };
  const read = (options: UpstreamOptions, env = {}) => upstreamOf(options, ['small'], env, (text) => Error(text));
  t.equal(read(none), null);
  t.match(read(all, { KEY: 'k' }), { name: 'big', model: 'big', key: 'k', deadlineHeader: 'x-request-ttl-ms' });
  t.throws(() => read(all), /--upstream-key-env/);
  t.throws(() => read({ ...all, upstream: null }), /--upstream must/);
  t.throws(() => read({ ...all, upstreamModel: null }), /--upstream-model must/);
  t.throws(() => read({ ...all, upstreamModel: 'small:10' }, { KEY: 'k' }), /must differ/);
  t.equal(restOfBudget('x-request-ttl-ms', 1234.5), '1234');
  t.equal(restOfBudget('x-litellm-timeout', 1234.5), '1.234');
  t.end();
});
