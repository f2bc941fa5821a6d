/** What is said otherwise of a schema before the grammar library reads it, and what stays as it is. */
import t from 'tap';
import { normalSchema } from '../../../src/engine/grammar/schema-normal.js';
import { PYDANTIC, ZOD } from './schemas.js';

void t.test('what asks for nothing is left out, wherever a schema is', (t) => {
  const nothing = [
    { propertyNames: true },
    { propertyNames: {} },
    { propertyNames: { type: 'string' } },
    { uniqueItems: false },
    { format: 'uri-reference' },
  ];
  for (const each of nothing) {
    const within = (schema: object) => ({
      ...schema,
      items: [schema],
      anyOf: [schema],
      additionalProperties: schema,
      properties: { format: schema },
      $defs: { a: schema },
    });
    t.strictSame(normalSchema(within(each)), within({}), JSON.stringify(each));
  }
  t.strictSame(normalSchema(ZOD['z.object({ url: z.url(), jwt: z.jwt(), id: z.cuid() })']), {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    properties: {
      url: { type: 'string' },
      jwt: { type: 'string' },
      id: { type: 'string', pattern: '^[cC][0-9a-z]{6,}$' },
    },
    required: ['url', 'jwt', 'id'],
    additionalProperties: false,
  });
  t.end();
});

void t.test('values, known formats and what does ask for something stay', (t) => {
  const value = { uniqueItems: false, format: 'path', propertyNames: true, oneOf: [] };
  for (const schema of [
    true,
    { const: value, enum: [value], default: value, examples: [value] },
    { format: 'date-time' },
    { uniqueItems: true },
    { propertyNames: { pattern: '^a' } },
    { properties: { uniqueItems: false, propertyNames: true } },
  ]) {
    t.strictSame(normalSchema(schema), schema, JSON.stringify(schema));
  }
  t.end();
});

void t.test('a union whose branches list other values of a property becomes anyOf, and they require it', (t) => {
  const { $defs, discriminator } = PYDANTIC['Annotated[Cat | Dog | Bird, Field(discriminator="kind")]'];
  const required = ['kind'];
  t.strictSame(normalSchema(PYDANTIC['Annotated[Cat | Dog | Bird, Field(discriminator="kind")]']), {
    $defs,
    discriminator,
    anyOf: [{ $ref: '#/$defs/Cat' }, { $ref: '#/$defs/Dog', required }, { $ref: '#/$defs/Bird', required }],
  });
  const inline = ['a', 'b'].map((kind) => ({ type: 'object', properties: { kind: { const: kind } }, required: ['x'] }));
  t.strictSame(
    normalSchema({ oneOf: inline }),
    { anyOf: inline.map((each) => ({ ...each, required: ['x', 'kind'] })) },
    'beside what they require themselves',
  );
  t.end();
});

void t.test('another union stays', (t) => {
  const a = { type: 'object', properties: { kind: { const: 'a' } }, required: ['kind'] };
  const b = { ...a, properties: { kind: { const: 'b' } } };
  const root = { $defs: { a, b, circle: { $ref: '#/$defs/circle' } } };
  const refs = [{ $ref: '#/$defs/a' }, { $ref: '#/$defs/b' }];
  for (const schema of [
    { oneOf: [a, a] },
    { oneOf: [a, { ...b, properties: { kind: { enum: ['b', 'a'] } } }] },
    { oneOf: [a, { ...b, properties: { kind: { type: 'string' } } }] },
    { oneOf: [a, { ...b, properties: { other: { const: 'b' } } }] },
    // Two objects that are equal.
    { oneOf: [a, b].map((each) => ({ ...each, properties: { kind: { const: { x: 1 } } } })) },
    // Neither is against what is no object.
    { oneOf: [a, { properties: b.properties }] },
    { oneOf: [{ type: 'string' }, { type: 'null' }] },
    { oneOf: [a, true] },
    { oneOf: [] },
    { ...root, oneOf: [a, { $ref: '#/$defs/nowhere' }] },
    { ...root, oneOf: [a, { $ref: '#/$defs/circle' }] },
    { ...root, oneOf: [a, { $ref: '#b' }] },
    { ...root, oneOf: [a, { $ref: 'http://else/#/$defs/b' }] },
    // "#" is the one that has an $id.
    { ...root, items: { $id: 'http://here', oneOf: refs } },
    { ...root, oneOf: refs, anyOf: [true] },
    { ...root, oneOf: refs, properties: { a: { $ref: '#/oneOf/0' } } },
  ]) {
    t.strictSame(normalSchema(schema), schema, JSON.stringify(schema));
  }
  t.end();
});

void t.test('a whole number that is excluded is so where the other bound has the same whole part', (t) => {
  const type = 'number';
  for (const [said, meant] of [
    [
      { exclusiveMinimum: 0, maximum: 0.5 },
      { minimum: 5e-7, maximum: 0.5 },
    ],
    [
      { exclusiveMinimum: 5, exclusiveMaximum: 5.5 },
      { minimum: 5 + 5e-7, exclusiveMaximum: 5.5 },
    ],
    [
      { minimum: 0, exclusiveMinimum: true, maximum: 0.5 },
      { minimum: 5e-7, maximum: 0.5 },
    ],
    [
      { minimum: -1, exclusiveMinimum: 0, maximum: 0.5 },
      { minimum: 5e-7, maximum: 0.5 },
    ],
    [
      { minimum: -0.5, exclusiveMaximum: 0 },
      { minimum: -0.5, maximum: -5e-7 },
    ],
    [
      { exclusiveMinimum: -5.5, exclusiveMaximum: -5 },
      { exclusiveMinimum: -5.5, maximum: -5 - 5e-7 },
    ],
    // Nothing lies between them.
    [
      { exclusiveMinimum: 1, maximum: 1 + 2 ** -52 },
      { minimum: 1 + 2 ** -52, maximum: 1 + 2 ** -52 },
    ],
    [
      { minimum: -1 - 2 ** -52, exclusiveMaximum: -1 },
      { minimum: -1 - 2 ** -52, maximum: -1 - 2 ** -52 },
    ],
  ] as const) {
    t.strictSame(normalSchema({ type, ...said }), { type, ...meant }, JSON.stringify(said));
    t.strictSame(normalSchema({ items: { type, ...said } }), { items: { type, ...meant } }, 'wherever it is');
  }
  for (const schema of [
    { exclusiveMinimum: 0 },
    { exclusiveMaximum: 0 },
    { exclusiveMinimum: 0, maximum: 1 },
    { minimum: 0, maximum: 0.5 },
    { minimum: -0.5, maximum: 0 },
    { minimum: 0, exclusiveMinimum: false, maximum: 0.5 },
    { exclusiveMinimum: 0.25, maximum: 0.5 },
    { minimum: -0.5, exclusiveMaximum: -0.25 },
    { exclusiveMinimum: -0.5, exclusiveMaximum: 0.25 },
    { minimum: 0.25, exclusiveMinimum: 0, maximum: 0.5 },
    { exclusiveMinimum: -1, maximum: -0.5 },
    { minimum: 0.5, exclusiveMaximum: 1 },
    { exclusiveMinimum: 0, maximum: 0 },
    { exclusiveMinimum: 0, maximum: -0.5 },
    { exclusiveMinimum: null, maximum: 0.5 },
  ]) {
    t.strictSame(normalSchema(schema), schema, JSON.stringify(schema));
  }
  t.end();
});
