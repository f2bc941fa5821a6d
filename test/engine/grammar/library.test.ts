/** What the grammar library says, as a caller reads it. */
import t from 'tap';
import { toInvalidGrammar } from '../../../src/engine/grammar/library.js';
import { SchemaError } from '../../../src/engine/grammar/schema-error.js';

const json = { kind: 'json', schema: '{}' } as const;
const functions = ['a', 'b'].map((name) => ({ name, schema: '{}' }));
const calls = { kind: 'calls', functions, most: 1, isOptional: false } as const;

void t.test('a complaint is the first line, without what the library was doing', (t) => {
  const message = 'Unimplemented keys: ["not"]';
  for (const doing of ['', 'Failed to compute mask: ', 'Failed to consume token: ']) {
    t.same(toInvalidGrammar(`${doing}${message}\n<state>\n</state>`, json), { message, part: null });
  }
  t.equal(toInvalidGrammar('x'.repeat(300), json)?.message.length, 200, 'it may hold all of a schema');
  t.end();
});

void t.test('of a call it is told which function it is about, unless it is about none', (t) => {
  const said = 'failed to compile JSON schema: Unimplemented keys: ["not"]';
  for (const [line, part] of [
    [1, null],
    [2, null],
    [3, 0],
    [4, 1],
  ] as const) {
    const complaint = { message: 'Unimplemented keys: ["not"]', part };
    t.same(toInvalidGrammar(`Failed to compute mask: at ${line}(5): ${said}`, calls), complaint, `line ${line}`);
    t.same(toInvalidGrammar(`${line}(17): ${said}`, calls), complaint);
  }
  t.same(toInvalidGrammar('at 4(5): x', json), { message: 'at 4(5): x', part: null }, 'a schema may say that');
  t.same(toInvalidGrammar(new SchemaError('it must be less', 1), calls), { message: 'it must be less', part: 1 });
  t.end();
});

void t.test('what is no complaint of a grammar is none', (t) => {
  for (const error of [new RangeError('Maximum call stack size exceeded'), undefined, 5]) {
    t.equal(toInvalidGrammar(error, calls), null);
  }
  t.end();
});
