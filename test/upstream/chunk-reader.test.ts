/** The chunks of a stream, read by the place of their text, and the share of the event loop that streams have. */
import fc from 'fast-check';
import { Readable } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { ChunkReader, readChunk } from '../../src/gateway/upstream/chunk.js';
import { HeldBytes } from '../../src/gateway/upstream/held-bytes.js';
import { without, withTexts } from '../../src/gateway/upstream/json-fields.js';
import { eventsIn } from '../../src/gateway/upstream/sse-events.js';

const NAMES = { id: 'here', model: 'm"' };

/** Forms of chunks around the JSON of a text. */
const FORMS: readonly ((text: string) => string)[] = [
  (text) => `{"id":"a","model":"x","choices":[{"index":0,"delta":{"content":${text}},"finish_reason":null}]}`,
  (text) => `{"id":"a","choices":[{"index":0,"delta":{"content":${text}},"finish_reason":"stop"}],"model":"x"}`,
  (text) => `{"choices":[{"text":${text},"delta":{"content":"b"}}],"id":"a"}`,
  (text) => `{"choices":[{"delta":{"reasoning_content":${text},"content":"b"}}]}`,
  (text) => `{"choices":[{"delta":{"reasoning_content": ${text} ,"content":""}}],"more":[${text}]}`,
  (text) => `{"choices":[{"delta":{"reasoning_content":${text},"content":null}}]}`,
  (text) => `{"choices":[{"delta":{"content":${text},"content":"b"}}]}`,
  (text) => `{"choices":[{"delta":{"content":${text},"tool_calls":[{"index":0}]}}]}`,
  (text) => `{"choices":[{"delta":{"content":${text}}},{"index":1,"delta":{"content":"b"}}]}`,
  (text) => `{"choices":[],"usage":{"prompt_tokens":1,"content":${text}}}`,
  (text) => `{"choices":[{"delta":{"content":"b"},"logprobs":{"content":${text}}}]}`,
];
const text = fc.oneof(
  fc.constantFrom('"a"', '"b c"', '"\\n"', '"\\u0041\\""', '"text of a chunk"', '""', '"é👋"'),
  fc.string().map((each) => JSON.stringify(each)),
);
const chunks = fc.array(fc.tuple(fc.constantFrom(...FORMS), fc.array(text, { maxLength: 6 })), { maxLength: 5 });

void t.test('a chunk that is read by the place of its text equals one that is read whole', (t) => {
  let found = 0;
  fc.assert(
    fc.property(chunks, (groups) => {
      const reader = new ChunkReader(NAMES);
      return groups
        .flatMap(([form, texts]) => texts.map(form))
        .every((data) => {
          const { json, ...whole } = readChunk(data);
          const { json: own, ...read } = reader.read(data);
          if (!('choices' in own)) found++;
          const isSame = isDeepStrictEqual(without(own, 'choices'), without(json, 'choices'));
          return isSame && isDeepStrictEqual(read, { ...whole, data: withTexts(data, NAMES) });
        });
    }),
  );
  t.ok(found > 20, `${found} chunks by the place`);
  t.end();
});

void t.test('a text that is no JSON is no part of a chunk', (t) => {
  const reader = new ChunkReader(NAMES);
  const [form = String] = FORMS;
  for (const each of ['"a"', '"b"']) reader.read(form(each));
  t.notOk('choices' in reader.read(form('"c"')).json, 'found by its place');
  for (const wrong of ['"', '"\\"', '"\\x"', '"a"b"', '"\n"'])
    t.throws(() => reader.read(form(wrong)), { code: 'upstream_failed' }, wrong);
  t.end();
});

void t.test('timers have their turn beside a stream that always has more', async (t) => {
  async function* flood(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) yield await Promise.resolve(Buffer.from('data: {}\n\n'.repeat(6000)));
  }
  const timer = { isOver: false };
  setTimeout(() => (timer.isOver = true), 50);
  let events = 0;
  let most = 0;
  for await (const group of eventsIn(Readable.from(flood()), new HeldBytes('flood'))) {
    events += group.length;
    most = Math.max(most, group.length);
    if (timer.isOver || events > 1e7) break;
  }
  t.ok(timer.isOver, `the timer ran behind ${events} events`);
  t.ok(most < 500, `${most} events of a read follow each other`);
});
