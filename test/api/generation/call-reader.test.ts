import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { CallReader, type CallPart } from '../../../src/gateway/api/generation/call-reader.js';
import { CALL } from '../../../src/gateway/text/tool-form.js';

interface Call {
  readonly name: string;
  readonly arguments: string;
}

const spelt = ({ name, arguments: text }: Call): string => CALL.open + name + CALL.middle + text + CALL.close;

function joined(parts: readonly CallPart[]): Call[] {
  const calls: Call[] = [];
  for (const { index, name = '', arguments: text } of parts) {
    const call = calls[index] ?? { name, arguments: '' };
    calls[index] = { ...call, arguments: call.arguments + text };
  }
  return calls;
}

/** Reads the text in pieces of these lengths. */
function read(text: string, lengths: readonly number[], isOptional = true) {
  const reader = new CallReader(isOptional);
  const parts: CallPart[] = [];
  let shown = '';
  for (let at = 0, i = 0; at < text.length; i++) {
    const end = at + (lengths[i % lengths.length] ?? 1);
    const piece = reader.push(text.slice(at, end));
    shown += piece.text;
    parts.push(...piece.parts);
    at = end;
  }
  return { reader, parts, shown };
}

const lengths = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 8 });
const call = fc.record(
  {
    name: fc.constantFrom('get_weather', 'f', 'a-b_C9'),
    arguments: fc
      .dictionary(fc.string({ maxLength: 6 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 })
      .map((value) => JSON.stringify(value)),
  },
  { noNullPrototype: true },
);

void t.test('calls are read as written, wherever the text is split', (t) => {
  fc.assert(
    fc.property(fc.array(call, { minLength: 1, maxLength: 3 }), lengths, fc.boolean(), (calls, cuts, isOptional) => {
      const { reader, parts, shown } = read(calls.map(spelt).join(CALL.between), cuts, isOptional);
      const begins = parts.filter(({ id }) => id !== undefined);
      assert.deepEqual(joined(parts), calls);
      assert.equal(new Set(begins.map(({ id }) => id)).size, calls.length, 'each call has its own id');
      assert.ok(begins.every((part) => part.arguments === '' && /^call_\w{20,}$/.test(part.id ?? '')));
      assert.ok(reader.isComplete && !reader.isText && shown === '');
      assert.deepEqual(reader.end(), { text: '', parts: [] });
    }),
    { numRuns: 200 },
  );
  t.end();
});

void t.test('text passes unchanged, whatever its beginning', (t) => {
  const text = fc.oneof(
    fc.string({ maxLength: 30 }),
    fc.constantFrom('<', '<tool', '<tools>', '<tool_', '<b>x</b>', CALL.open.slice(0, 5) + ' x'),
  );
  fc.assert(
    fc.property(text, lengths, (text, cuts) => {
      const { reader, parts, shown } = read(text, cuts);
      const end = reader.end();
      assert.deepEqual([...parts, ...end.parts], []);
      assert.equal(shown + end.text, text === '<tool_' ? '' : text);
      assert.ok(!reader.isComplete);
    }),
    { numRuns: 200 },
  );
  t.end();
});

void t.test('a cut call has the partial arguments and nothing else, wherever the cut is', (t) => {
  const whole = { name: 'f', arguments: '{"a": {"b": "}"}, "c": [{}]}' };
  const text = spelt(whole);
  for (const before of ['', text + CALL.between]) {
    for (let length = 0; length < text.length; length++) {
      const { reader, parts } = read(before + text.slice(0, length), [3], false);
      const end = reader.end();
      const call = joined([...parts, ...end.parts])[before === '' ? 0 : 1];
      assert.ok(end.text === '' && !reader.isComplete);
      const inside = length - CALL.open.length - 1 - CALL.middle.length;
      const expected = inside < 0 ? '' : whole.arguments.slice(0, inside);
      assert.equal(call?.arguments ?? '', expected, `${length} characters`);
    }
  }
  t.end();
});

void t.test('text outside the grammar of calls is a fault, not an answer', (t) => {
  t.throws(() => new CallReader(false).push('Hello'));
  t.throws(() => read(`${CALL.open}f${CALL.middle}{}${CALL.close}Hello`, [100]));
  t.end();
});
