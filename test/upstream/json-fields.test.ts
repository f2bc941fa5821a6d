/** Names in the chunks of a stream: texts that are replaced at once have the bytes of those replaced one by one. */
import fc from 'fast-check';
import t from 'tap';
import { textReplacer, withTexts } from '../../src/gateway/upstream/json-fields.js';

const NAMES = { id: 'here', model: 'm"' };

const begins = fc.constantFrom(
  '{"id":"a","model":"x"',
  '{"id":"a","model":"x',
  '{"id":"a","model":"x\\"',
  '{ "model" : "x", "id":"a"',
  '{"choices":[{"id":"a"}],"model":"x","id":"a"',
  '{"id":"a","object":"o"',
  '{"id":null,"model":"x"',
  '[DONE]',
);
const ends = fc.constantFrom(
  '}',
  ',"choices":[{"id":"b","delta":{"content":"\\u0041"}}]}',
  'y","z":1}',
  '"}',
  '',
  ',"id":"c"}',
);

void t.test('chunks that begin alike or not have the same result', (t) => {
  const stream = fc.array(fc.tuple(begins, ends, fc.integer({ min: 1, max: 3 })), { maxLength: 12 });
  fc.assert(
    fc.property(stream, (parts) => {
      const renamed = textReplacer(NAMES);
      const chunks = parts.flatMap(([begin, end, times]) => Array.from({ length: times }, () => begin + end));
      return chunks.every((chunk) => renamed(chunk) === withTexts(chunk, NAMES));
    }),
  );
  t.pass();
  t.end();
});
