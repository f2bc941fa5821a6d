/**
 * Checks the kinds of a schema's keywords before the grammar library reads it, for errors that name a place.
 *
 * The library may panic at a wrong kind: it truncates its message inside a character. It allows the greatest 64-bit
 * integer above a larger lower bound, and crashes at an upper bound below the least one.
 */
import { isValid, type TSchema, Type } from '../../util/schema.js';
import { isSchemaObject, mapSchemas, type SchemaObject } from './keywords.js';
import { SchemaError } from './schema-error.js';
import { quoted } from '../../util/quoted.js';

interface Rule {
  readonly type: TSchema;
  readonly rule: string;
}

const COUNT: Rule = { type: Type.Integer({ minimum: 0 }), rule: 'a whole number of at least 0' };
const NUMBER: Rule = { type: Type.Number(), rule: 'a number' };
const BELOW = { exclusiveMaximum: 2 ** 63 };
const LEAST: Rule = { type: Type.Number(BELOW), rule: 'a number below 2^63' };
const ABOVE = { exclusiveMinimum: -(2 ** 63) };
const MOST: Rule = { type: Type.Number(ABOVE), rule: 'a number above -2^63' };
/** In draft 4 these keywords are booleans. */
const EXCLUSIVE_LEAST: Rule = { type: Type.Union([Type.Number(BELOW), Type.Boolean()]), rule: LEAST.rule };
const EXCLUSIVE_MOST: Rule = { type: Type.Union([Type.Number(ABOVE), Type.Boolean()]), rule: MOST.rule };
const TEXT: Rule = { type: Type.String(), rule: 'a string' };
const LIST: Rule = { type: Type.Array(Type.Unknown()), rule: 'an array' };
const NAMED: Rule = { type: Type.Record(Type.String(), Type.Unknown()), rule: 'an object' };

const RULES: Readonly<Record<string, Rule>> = {
  $ref: TEXT,
  type: { type: Type.Union([Type.String(), Type.Array(Type.String())]), rule: 'a string or an array of strings' },
  enum: LIST,
  anyOf: LIST,
  oneOf: LIST,
  allOf: LIST,
  minLength: COUNT,
  maxLength: COUNT,
  pattern: TEXT,
  format: TEXT,
  minimum: LEAST,
  maximum: MOST,
  exclusiveMinimum: EXCLUSIVE_LEAST,
  exclusiveMaximum: EXCLUSIVE_MOST,
  multipleOf: NUMBER,
  prefixItems: LIST,
  minItems: COUNT,
  maxItems: COUNT,
  properties: NAMED,
  patternProperties: NAMED,
  required: { type: Type.Array(Type.String()), rule: 'an array of strings' },
  minProperties: COUNT,
  maxProperties: COUNT,
};

/** A null value passes: its error message is short, and the library ignores it where the keyword does not apply. */
function checkKeywords(schema: SchemaObject, before: string): void {
  for (const [key, { type, rule }] of Object.entries(RULES)) {
    const value = Object.hasOwn(schema, key) ? schema[key] : null;
    if (value === null || isValid(type, value)) continue;
    throw new SchemaError(`${before}${key} must be ${rule}, got ${quoted(value)}`);
  }
}

/**
 * @param place path of the schema in its document; absent: it is the document
 * @throws SchemaError with the place of a keyword whose value has a wrong kind
 */
export function checkSchema(schema: unknown, place = ''): void {
  if (typeof schema === 'boolean') return;
  if (!isSchemaObject(schema))
    throw new SchemaError(`${place === '' ? 'it' : place} must be an object or a boolean, got ${quoted(schema)}`);
  const before = place === '' ? '' : `${place}.`;
  checkKeywords(schema, before);
  mapSchemas(schema, (each, at) => {
    checkSchema(each, before + at);
  });
}
