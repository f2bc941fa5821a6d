/** The kinds of keywords, before the grammar library reads a schema. */
import t from 'tap';
import { checkSchema } from '../../../src/engine/grammar/schema-check.js';

const wrong = { minLength: 'x' };

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
    t.throws(
      () => {
        checkSchema(schema);
      },
      { message },
    );
  }
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
