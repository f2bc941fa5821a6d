/** The builders of schemas against those of TypeBox. */
import t from 'tap';
import * as TypeBox from 'typebox';
import { Value } from 'typebox/value';
import { faultsOf, isValid, Type } from '../../src/util/schema.js';

type Builders = typeof Type;

/** One schema for each builder, with and without options, nested and optional. */
function schemasOf(T: Builders): Record<string, TypeBox.TSchema> {
  const text = T.String({ minLength: 1, description: 'Not empty.' });
  const fields = {
    text,
    count: T.Optional(T.Integer({ minimum: 0, default: 3 })),
    ratio: T.Optional(T.Union([T.Number({ maximum: 1 }), T.Null()], { description: 'Or none.' })),
    kind: T.Union([T.Literal('a'), T.Literal(2), T.Literal(true)]),
    list: T.Array(T.Optional(T.Boolean()), { maxItems: 4 }),
    pair: T.Tuple([T.Number(), T.String()]),
    any: T.Unknown({ examples: [1] }),
    map: T.Record(T.String(), T.Unknown(), { minProperties: 1 }),
    numbered: T.Optional(T.Record(T.String({ pattern: '^[1-9]$' }), T.Object({}, { additionalProperties: false }))),
  };
  const all = T.Object(fields, { additionalProperties: true, description: 'All.' });
  return {
    ...fields,
    all,
    empty: T.Object({}),
    optionals: T.Object({ a: T.Optional(T.Null()) }),
    omit: T.Omit(all, ['text', 'ratio']),
    partial: T.Partial(T.Object({ a: T.Null(), b: T.Optional(T.Boolean()) })),
    unsafe: T.Unsafe<string>({ type: ['string', 'array'] }),
    reused: T.Object({ required: text, optional: T.Optional(text), again: text }),
    nested: T.Array(T.Object({ of: T.Optional(T.Object({ text })) })),
  };
}

const ours = schemasOf(Type);
const theirs = schemasOf(TypeBox);

void t.test('the builders make the JSON that those of TypeBox make', async (t) => {
  for (const [name, schema] of Object.entries(theirs))
    t.equal(JSON.stringify(ours[name], null, 1), JSON.stringify(schema, null, 1), name);
});

void t.test('a value is valid, and has faults, as in TypeBox', async (t) => {
  const valid = { text: 'x', kind: 2, list: [true], pair: [1, 'b'], any: null, map: { a: 1 } };
  const values: unknown[] = [
    ...[valid, { ...valid, count: 1, ratio: null, more: 1 }, { ...valid, text: '' }, { ...valid, count: 1.5 }],
    ...[
      { ...valid, pair: [1] },
      { ...valid, map: {} },
      { ...valid, numbered: { 0: 1, 1: { a: 1 } } },
    ],
    ...[{ text: 'x' }, null, [], 'text', 5],
  ];
  for (const value of values)
    for (const [name, schema] of Object.entries(theirs)) {
      const title = `${name}: ${JSON.stringify(value)}`;
      t.equal(isValid(ours[name] ?? {}, value), Value.Check(schema, value), title);
      t.strictSame(faultsOf(ours[name] ?? {}, value), Value.Errors(schema, value), title);
    }
  t.ok(isValid(ours.all ?? {}, valid));
});
