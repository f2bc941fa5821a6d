/** Schemas before the grammar library reads them: the kinds of keywords, and what changes. */
import t from 'tap';
import { checkSchema, normalSchema } from '../../../src/engine/grammar/schema.js';
import { PYDANTIC, ZOD } from './schemas.js';

const wrong = { minLength: 'x' };
/** The library cuts its message at byte 100, here within a character, and panics. */
const panic = { type: 'string', minLength: 'é'.repeat(60) };

const check = (schema: unknown) => (): void => {
  checkSchema(schema);
};

void t.test('a malformed schema is found at every place of a schema', (t) => {
  const places: Record<string, object> = {
    items: { items: wrong },
    'items[0]': { items: [wrong] },
    additionalItems: { additionalItems: wrong },
    'prefixItems[0]': { prefixItems: [wrong] },
    additionalProperties: { additionalProperties: wrong },
    'anyOf[0]': { anyOf: [wrong] },
    'oneOf[0]': { oneOf: [wrong] },
    'allOf[0]': { allOf: [wrong] },
    'properties.a': { properties: { a: wrong } },
    'patternProperties.^a': { patternProperties: { '^a': wrong } },
    '$defs.a': { $defs: { a: wrong } },
    'definitions.a': { definitions: { a: wrong } },
  };
  for (const [place, schema] of Object.entries(places)) {
    const message = `${place}.minLength must be a whole number of at least 0, got "x"`;
    t.throws(check(schema), { message });
  }
  for (const [schema, message] of [
    [panic, /^minLength must be a whole number of at least 0, got "é+\.\.\.$/],
    [{ properties: { a: { required: ['x', 5] } } }, /^properties\.a\.required must be an array of strings, got/],
    [{ prefixItems: [{}, 'x'] }, /^prefixItems\[1\] must be an object or a boolean, got "x"/],
    [
      { properties: { a: { items: { anyOf: [true, panic] } } } },
      /^properties\.a\.items\.anyOf\[1\]\.minLength must be/,
    ],
  ] as const) {
    t.throws(check(schema), message);
  }
  // Names and values that look like keywords.
  t.doesNotThrow(
    check({ properties: { minLength: { const: panic } }, examples: [panic], minimum: null, type: 'object' }),
  );
  t.end();
});

void t.test('integer bounds leave a range within 64 bits', (t) => {
  const least = -(2 ** 63);
  const rule = /^(maximum|exclusiveMaximum) must be a number above -2\^63, got -/;
  for (const bound of [{ maximum: least }, { exclusiveMaximum: least }, { maximum: -1e21 }]) {
    t.throws(check({ type: 'integer', minimum: -1e21, ...bound }), rule);
  }
  for (const bound of [{ minimum: -least }, { exclusiveMinimum: -least }, { minimum: 1e21, maximum: 1e21 }]) {
    t.throws(check({ type: 'integer', ...bound }), /^(minimum|exclusiveMinimum) must be a number below 2\^63, got /);
  }
  for (const bound of [
    { minimum: -1e21, maximum: least + 1024 },
    { exclusiveMinimum: -1e21 },
    { minimum: -least - 1024, maximum: 1e21 },
  ]) {
    t.doesNotThrow(check({ type: 'integer', ...bound }));
  }
  for (const bound of [
    { exclusiveMaximum: true, maximum: 5 },
    { exclusiveMinimum: false, minimum: 5 },
  ]) {
    t.doesNotThrow(check({ type: 'integer', ...bound }), 'boolean exclusive bounds of draft 4');
  }
  t.end();
});

void t.test('keywords without effect are removed at every place of a schema', (t) => {
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

void t.test('values, known formats and keywords with an effect stay', (t) => {
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

void t.test('oneOf with distinct values of a property becomes anyOf, and the branches require it', (t) => {
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
    'added to their own required properties',
  );
  t.end();
});

void t.test('other unions stay', (t) => {
  const a = { type: 'object', properties: { kind: { const: 'a' } }, required: ['kind'] };
  const b = { ...a, properties: { kind: { const: 'b' } } };
  const root = { $defs: { a, b, circle: { $ref: '#/$defs/circle' } } };
  const refs = [{ $ref: '#/$defs/a' }, { $ref: '#/$defs/b' }];
  for (const schema of [
    { oneOf: [a, a] },
    { oneOf: [a, { ...b, properties: { kind: { enum: ['b', 'a'] } } }] },
    { oneOf: [a, { ...b, properties: { kind: { type: 'string' } } }] },
    { oneOf: [a, { ...b, properties: { other: { const: 'b' } } }] },
    // Two equal objects.
    { oneOf: [a, b].map((each) => ({ ...each, properties: { kind: { const: { x: 1 } } } })) },
    // The second branch also accepts values that are not objects.
    { oneOf: [a, { properties: b.properties }] },
    { oneOf: [{ type: 'string' }, { type: 'null' }] },
    { oneOf: [a, true] },
    { oneOf: [] },
    { ...root, oneOf: [a, { $ref: '#/$defs/nowhere' }] },
    { ...root, oneOf: [a, { $ref: '#/$defs/circle' }] },
    { ...root, oneOf: [a, { $ref: '#b' }] },
    { ...root, oneOf: [a, { $ref: 'http://else/#/$defs/b' }] },
    // "#" means the schema with the $id.
    { ...root, items: { $id: 'http://here', oneOf: refs } },
    { ...root, oneOf: refs, anyOf: [true] },
    { ...root, oneOf: refs, properties: { a: { $ref: '#/oneOf/0' } } },
  ]) {
    t.strictSame(normalSchema(schema), schema, JSON.stringify(schema));
  }
  t.end();
});

void t.test('an excluded whole number becomes a bound beside it if the other bound is less than 1 away', (t) => {
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
      { minimum: -0.5, exclusiveMaximum: 0 },
      { minimum: -0.5, maximum: -5e-7 },
    ],
    // No value lies between the bounds.
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
    t.strictSame(normalSchema({ items: { type, ...said } }), { items: { type, ...meant } }, 'within another schema');
  }
  for (const schema of [
    { exclusiveMinimum: 0 },
    { exclusiveMaximum: 0 },
    { exclusiveMinimum: 0, maximum: 1 },
    { exclusiveMinimum: -1, maximum: -0.5 },
    { minimum: 0, maximum: 0.5 },
    { minimum: 0, exclusiveMinimum: false, maximum: 0.5 },
    { exclusiveMinimum: 0.25, maximum: 0.5 },
    { minimum: 0.25, exclusiveMinimum: 0, maximum: 0.5 },
    { minimum: 0.5, exclusiveMaximum: 1 },
    { exclusiveMinimum: 0, maximum: 0 },
    { exclusiveMinimum: null, maximum: 0.5 },
  ]) {
    t.strictSame(normalSchema(schema), schema, JSON.stringify(schema));
  }
  t.end();
});
