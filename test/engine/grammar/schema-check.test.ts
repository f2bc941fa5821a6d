/** Limits on the depth and size of a schema before the grammar library reads it. */
import t from 'tap';
import { checkSchema } from '../../../src/engine/grammar/schema-check.js';
import { noExpansion } from '../../../src/engine/grammar/schema-expansion.js';

const TOO_DEEP = /^it must have at most 256 schemas within each other, references followed, got \d+$/;
const TOO_LARGE = /must be at most 8192 schemas where what meets in it/;

const ref = (name: string) => ({ $ref: `#/$defs/${name}` });
const object = (...names: string[]) => ({
  type: 'object',
  properties: Object.fromEntries(names.map((name) => [name, { type: 'integer' }])),
});
const some = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));
const pair = (name: string) => ({ anyOf: [object(`a${name}`), object(`b${name}`)] });
const enumOf = (count: number) => ({ enum: some(count, (i) => `value ${i}`) });

void t.test('a reference cycle counts with its deepest nesting, from every entry', (t) => {
  // Each of `ring` lists refers to the next one, and the reference is a schema of its own.
  const ring = (name: string, length: number) =>
    Object.fromEntries(
      some(length, (i) => [`${name}${i}`, { type: 'array', items: ref(`${name}${(i + 1) % length}`) }]),
    );
  const deep = { $defs: { ...ring('a', 127) }, items: ref('a5') };
  t.doesNotThrow(() => {
    checkSchema(deep);
  });
  t.throws(() => {
    checkSchema({ ...deep, $defs: ring('a', 128) });
  }, TOO_DEEP);
  // The path goes round the second ring and leaves it right before its end, in any order of definitions.
  const joined = { ...ring('a', 70), ...ring('b', 70), b68: { prefixItems: [ref('a69')], items: ref('b69') } };
  for (const entries of [Object.entries(joined), Object.entries(joined).reverse()]) {
    t.throws(() => {
      checkSchema({ $defs: Object.fromEntries(entries), items: ref('b69') });
    }, TOO_DEEP);
  }
  t.end();
});

void t.test('a cycle of many alternatives counts by the depth of its paths, not by its width', (t) => {
  // Like a syntax tree: 60 kinds of nodes, each with four children of any kind.
  const kinds = some(60, (i) => `k${i}`);
  const node = (kind: string) => ({
    type: 'object',
    properties: { kind: { const: kind }, ...Object.fromEntries(some(4, (i) => [`child${i}`, ref('any')])) },
  });
  const $defs = { any: { anyOf: kinds.map(ref) }, ...Object.fromEntries(kinds.map((kind) => [kind, node(kind)])) };
  t.doesNotThrow(() => {
    checkSchema({ $defs, ...ref('any') });
  });
  t.end();
});

void t.test('a shared target counts once on each path, and referenced parts count as well', (t) => {
  const names = some(200, (i) => `p${i}`);
  const $defs = {
    shared: { type: 'string' },
    ...Object.fromEntries(names.map((name) => [name, { items: ref('shared') }])),
  };
  t.doesNotThrow(() => {
    checkSchema({ $defs, properties: Object.fromEntries(names.map((name) => [name, ref(name)])) });
  });
  // Nested lists; the innermost may be any of them.
  const places = some(60, (i) => ({ $ref: `#${'/items'.repeat(i)}` }));
  t.doesNotThrow(() => {
    checkSchema(places.reduce<object>((items) => ({ type: 'array', items }), { anyOf: places }));
  });
  t.end();
});

const wrong = { minLength: 'x' };

void t.test('a malformed schema is found at every place of a schema and behind every reference', (t) => {
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
    '$ref ("#/x/a~01b")': { $ref: '#/x/a~01b', x: { 'a~1b': wrong } },
    '$ref ("#/x/a%20b")': { $ref: '#/x/a%20b', x: { 'a b': wrong } },
    '$ref ("#/x/100%")': { $ref: '#/x/100%', x: { '100%': wrong } },
    // The meaning of "#" there is known only after the $id.
    '$ref ("http://h/#/y")': { $ref: 'http://h/#/y', $defs: { h: { $id: 'http://h/', y: wrong } } },
  };
  for (const [place, schema] of Object.entries(places)) {
    const message = `${place}.minLength must be a whole number of at least 0, got "x"`;
    t.throws(
      () => {
        checkSchema(schema);
      },
      { message },
    );
  }
  // The library itself reports references that lead nowhere.
  for (const $ref of ['#/toString', '#/x/y', '#name']) {
    t.doesNotThrow(() => {
      checkSchema({ $ref });
    }, $ref);
  }
  t.end();
});

void t.test('a schema has at most 16 other schemas with an $id', (t) => {
  const named = (count: number) => ({ $id: 'http://h/', prefixItems: some(count, (i) => ({ $id: `http://h/${i}` })) });
  t.doesNotThrow(() => {
    checkSchema(named(16));
  });
  t.throws(
    () => {
      checkSchema(named(17));
    },
    { message: 'it must have at most 16 $id' },
  );
  t.end();
});

void t.test('intersecting unions are limited in their expansion', (t) => {
  const eight = { allOf: some(8, (i) => pair(`${i}`)) };
  const nine = { allOf: some(9, (i) => pair(`${i}`)) };
  for (const schema of [
    eight,
    // Alone, or beside a schema without a union, of any size.
    enumOf(2000),
    { type: 'string', ...enumOf(2000) },
    { anyOf: some(500, (i) => object(`a${i}`)) },
    { type: 'object', properties: { x: { type: 'integer' } }, anyOf: some(200, (i) => object(`a${i}`)) },
    { allOf: some(200, (i) => object(`a${i}`, `b${i}`)) },
    { allOf: some(12, () => ({ type: ['object', 'string', 'null'] })) },
    { allOf: some(12, (i) => ({ minLength: i })) },
    // Exactly at the limit.
    { allOf: [enumOf(8192), { minLength: 1 }] },
    // Every value matches one branch.
    { allOf: some(12, (i) => ({ anyOf: [object(`a${i}`), object(`b${i}`), true] })) },
    // No value matches both.
    { allOf: [{ type: 'string', enum: some(100, (i) => i) }, { enum: some(100, (i) => i) }] },
    { anyOf: some(100, (i) => ({ type: 'object', properties: { x: enumOf(20), y: pair(`${i}`) } })) },
    { allOf: some(12, (i) => ({ type: 'object', properties: { [`p${i}`]: pair('') } })) },
  ]) {
    t.doesNotThrow(
      () => {
        checkSchema(schema);
      },
      JSON.stringify(schema).slice(0, 80),
    );
  }
  for (const schema of [
    nine,
    { allOf: [enumOf(100), enumOf(100)] },
    { anyOf: some(80, (i) => object(`a${i}`)), oneOf: some(80, (i) => object(`b${i}`)) },
    { ...ref('a'), $defs: { a: { anyOf: some(80, (i) => object(`a${i}`)) } }, oneOf: some(80, (i) => object(`b${i}`)) },
    // Below the intersection, by name and by the rest.
    { allOf: some(10, (i) => ({ type: 'object', properties: { x: pair(`${i}`) } })) },
    { allOf: some(10, (i) => ({ type: 'object', additionalProperties: pair(`${i}`) })) },
    { allOf: some(10, (i) => ({ type: 'array', items: pair(`${i}`) })) },
    { allOf: some(10, (i) => ({ type: 'array', items: [], additionalItems: pair(`${i}`) })) },
    // By name in one schema, and by the rest in the other.
    { allOf: [{ additionalProperties: enumOf(100) }, { properties: { x: enumOf(100) } }] },
    { allOf: [{ properties: { x: enumOf(100) } }, { additionalProperties: enumOf(100) }] },
    { allOf: [{ additionalProperties: enumOf(20) }, ...[20, 21].map((n) => ({ properties: { x: enumOf(n) } }))] },
    { allOf: [{ items: enumOf(100) }, { prefixItems: [enumOf(100)] }] },
    { allOf: [{ prefixItems: [enumOf(100)] }, { items: enumOf(100) }] },
    {
      allOf: some(14, (i) => ({
        anyOf: [
          { type: 'integer', minimum: i },
          { type: 'integer', maximum: 99 + i },
        ],
      })),
    },
    { allOf: some(14, (i) => ({ anyOf: [object(`a${i}`), object(`b${i}`), false] })) },
    { allOf: [enumOf(8193), { minLength: 1 }] },
    // Of all possible meanings of "#", the largest counts.
    ...[enumOf(100), object('x')].map((a, index, both) => ({
      $defs: { a, h: { $id: 'http://h/', $defs: { a: both[1 - index] } } },
      allOf: [ref('a'), enumOf(100)],
    })),
    // Copies of a large schema.
    { allOf: [object(...some(4100, (i) => `p${i}`)), pair('x')] },
    { allOf: [object(...some(100, (i) => `p${i}`)), pair('x'), pair('y'), pair('z'), pair('u'), pair('v'), pair('w')] },
    // Each is small enough on its own.
    { properties: Object.fromEntries(some(3, (i) => [`p${i}`, structuredClone(eight)])) },
  ]) {
    t.throws(
      () => {
        checkSchema(schema);
      },
      TOO_LARGE,
      JSON.stringify(schema).slice(0, 80),
    );
  }
  const made = noExpansion();
  checkSchema(eight, made);
  checkSchema(eight, made);
  t.throws(() => {
    checkSchema(eight, made);
  }, TOO_LARGE);
  t.end();
});

void t.test('intersections of references terminate, including cycles', (t) => {
  const chain = (name: string) => ({ type: 'object', properties: { next: ref(name), [name]: { type: 'integer' } } });
  t.doesNotThrow(() => {
    checkSchema({ $defs: { a: chain('a'), b: chain('b') }, allOf: [ref('a'), ref('b')] });
  });
  // Twice as many at each level.
  const level = (name: string, i: number) => ({ properties: { x: ref(`${name}${i + 1}`), y: ref(`${name}${i + 1}`) } });
  const levels = (name: string) => some(20, (i) => [`${name}${i}`, { type: 'object', ...level(name, i) }] as const);
  const ends = { a20: object('x'), b20: object('y') };
  const $defs = { ...Object.fromEntries([...levels('a'), ...levels('b')]), ...ends };
  t.throws(() => {
    checkSchema({ $defs, allOf: [ref('a0'), ref('b0')] });
  }, TOO_LARGE);
  t.end();
});

void t.test('a union that doubles by references is read quickly, and too large in an intersection', (t) => {
  const twice = (i: number) => ({ anyOf: [ref(`a${i + 1}`), ref(`a${i + 1}`)] });
  const doubled = { ...Object.fromEntries(some(60, (i) => [`a${i}`, twice(i)])), a60: object('x') };
  t.doesNotThrow(() => {
    checkSchema({ $defs: doubled, ...ref('a0') });
  });
  t.throws(() => {
    checkSchema({ $defs: doubled, ...ref('a0'), type: 'object' });
  }, TOO_LARGE);
  t.end();
});

void t.test('integer bounds leave a range within 64 bits', (t) => {
  const least = -(2 ** 63);
  const rule = /^(maximum|exclusiveMaximum) must be a number above -2\^63, got -/;
  for (const bound of [{ maximum: least }, { exclusiveMaximum: least }, { maximum: -1e21 }]) {
    t.throws(() => {
      checkSchema({ type: 'integer', minimum: -1e21, ...bound });
    }, rule);
  }
  for (const bound of [{ minimum: -least }, { exclusiveMinimum: -least }, { minimum: 1e21, maximum: 1e21 }]) {
    t.throws(() => {
      checkSchema({ type: 'integer', ...bound });
    }, /^(minimum|exclusiveMinimum) must be a number below 2\^63, got /);
  }
  for (const bound of [
    { minimum: -1e21, maximum: least + 1024 },
    { exclusiveMinimum: -1e21 },
    { minimum: -least - 1024, maximum: 1e21 },
  ]) {
    t.doesNotThrow(() => {
      checkSchema({ type: 'integer', ...bound });
    });
  }
  for (const bound of [
    { exclusiveMaximum: true, maximum: 5 },
    { exclusiveMinimum: false, minimum: 5 },
  ]) {
    t.doesNotThrow(() => {
      checkSchema({ type: 'integer', ...bound });
    }, 'boolean exclusive bounds of draft 4');
  }
  t.end();
});

void t.test('multipleOf has a limited least common multiple, over all schemas of a request', (t) => {
  const rule = /^multipleOf must have a least common multiple of at most 10000, over all that there are .*, got more$/;
  const multiples = (...all: number[]) => ({ anyOf: all.map((multipleOf) => ({ type: 'number', multipleOf })) });
  for (const right of [
    multiples(16, 625),
    multiples(10_000_000),
    multiples(9973),
    multiples(-9973),
    multiples(0.01, 0.5, 0.25, 60, 1000, 1e7),
    multiples(9e-7, 9e21),
    multiples(100, 100, 99.99),
    multiples(0),
  ]) {
    t.doesNotThrow(() => {
      checkSchema(right);
    }, JSON.stringify(right));
  }
  for (const wrong of [
    multiples(10_001),
    multiples(0, 10_001),
    multiples(1_000_003),
    multiples(-10.001),
    multiples(1.0001e-7),
    multiples(97, 89, 2),
    multiples(2, 3, 5, 7, 11, 13),
    { properties: { a: { multipleOf: 101 }, b: { items: { multipleOf: 103 } } } },
  ]) {
    t.throws(
      () => {
        checkSchema(wrong);
      },
      rule,
      JSON.stringify(wrong),
    );
  }
  const made = noExpansion();
  checkSchema(multiples(9973), made);
  checkSchema(multiples(27), made);
  checkSchema({ type: 'number' }, made);
  checkSchema(multiples(100), made);
  t.throws(() => {
    checkSchema(multiples(2), made);
  }, rule);
  t.end();
});

void t.test('patterns of one text and patternProperties of one object are limited', (t) => {
  const texts = (count: number, format?: string) => ({
    allOf: some(count, (i) => ({ type: 'string', pattern: `x${i}y` })),
    ...(format === undefined ? {} : { format }),
  });
  const names = (count: number, first = 0) => ({
    type: 'object',
    patternProperties: Object.fromEntries(some(count, (i) => [`^p${first + i}x`, { type: 'integer' }])),
  });
  for (const right of [
    texts(8),
    texts(7, 'date'),
    { allOf: some(20, () => ({ pattern: '^a' })) },
    { anyOf: some(100, (i) => ({ pattern: `x${i}y` })) },
    { properties: Object.fromEntries(some(20, (i) => [`p${i}`, texts(8)])) },
    names(32),
    { allOf: [names(16), names(16, 16), names(16)] },
    { anyOf: some(4, (i) => names(32, 32 * i)) },
  ]) {
    t.doesNotThrow(
      () => {
        checkSchema(right);
      },
      JSON.stringify(right).slice(0, 80),
    );
  }
  const manyTexts = /^(it|items|\$defs\.a) must have at most 8 patterns and formats that one text keeps to, got 9$/;
  const manyNames = /^(it|items) must have at most 32 patternProperties that hold together, got \d+$/;
  for (const [wrong, rule] of [
    [texts(9), manyTexts],
    [texts(8, 'date'), manyTexts],
    [{ items: texts(9) }, manyTexts],
    [{ ...texts(7), ...ref('a'), $defs: { a: texts(8, 'date') } }, manyTexts],
    [{ allOf: some(9, (i) => ({ properties: { x: { pattern: `x${i}y` } } })) }, manyTexts],
    [{ allOf: some(9, (i) => ({ items: { anyOf: [{ pattern: `x${i}y` }, { type: 'null' }] } })) }, manyTexts],
    [names(33), manyNames],
    [{ items: { patternProperties: names(33).patternProperties } }, manyNames],
    [{ allOf: [names(20), names(20, 20)] }, manyNames],
  ] as const) {
    t.throws(
      () => {
        checkSchema(wrong);
      },
      rule,
      JSON.stringify(wrong).slice(0, 80),
    );
  }
  t.end();
});
