/** Messages for a file that breaks its schema: the place to change, and the allowed values. */
import t from 'tap';
import Type, { type TSchema } from 'typebox';
import { validationMessage } from '../../src/util/validation-message.js';

const list = Type.Array(Type.Tuple([Type.String(), Type.Number()]));
const record = Type.Record(Type.String(), Type.Integer({ minimum: 0 }));
const object = Type.Object({ type: Type.Literal('llama3'), factor: Type.Number() });
const letters = [Type.Literal('a'), Type.Literal('b')];

void t.test('a message names the place of the fault, in any branch of a union', async (t) => {
  const cases: [TSchema, unknown, string | null][] = [
    [list, [['a', 1]], null],
    [Type.Union([record, list]), { x: -1 }, '/at/x must be >= 0'],
    [Type.Union([record, list]), [['a', 1], ['b']], '/at/1 must not have fewer than 2 items'],
    [Type.Union([record, list]), [[1, 1]], '/at/0/0 must be string'],
    [Type.Union([record, list]), 5, '/at must be object or array'],
    [Type.Union([object, Type.Null()]), { type: 'yarn', factor: 1 }, '/at/type must be llama3'],
    [Type.Union([Type.Null(), object]), { type: 'llama3', factor: '1' }, '/at/factor must be number'],
    [Type.Union([object, Type.Null()]), { type: 'llama3' }, '/at must have required properties factor'],
    [Type.Union([Type.Literal(1), Type.Literal(2)]), '2', '/at must be 1 or 2'],
    [Type.Union(letters), 'c', '/at must be a or b'],
    [Type.Union([...letters, list]), [5], '/at/0 must be array'],
    [Type.Union([...letters, Type.Null()]), 5, '/at must be a or b or null'],
    [
      Type.Object({ a: Type.Number() }, { additionalProperties: false }),
      { a: 1, b: 1 },
      '/at/b is not a field of this file',
    ],
  ];
  for (const [schema, value, fault] of cases)
    await t.test(JSON.stringify(value), async (t) => {
      t.equal(validationMessage(Type.Object({ at: schema }), { at: value }), fault);
    });
  t.equal(validationMessage(object, []), '/ must be object');
});
