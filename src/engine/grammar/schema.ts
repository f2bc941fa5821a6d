/**
 * A client's JSON schema in keywords that the grammar library supports: their kinds are checked, and the forms of
 * pydantic, zod and OpenAPI are rewritten. The original schema allows every answer that the result allows.
 *
 * Must not know: the library's types, Lark.
 */
import { isDeepStrictEqual } from 'node:util';
import { quoted } from '../../util/quoted.js';
import { isValid, type TSchema, Type } from '../../util/schema.js';
import { GrammarError } from './errors.js';

type SchemaObject = Readonly<Record<string, unknown>>;

/** Keywords of all drafts with a schema, or a list of schemas. */
const DIRECT = new Set(['items', 'additionalItems', 'prefixItems', 'additionalProperties', 'anyOf', 'oneOf', 'allOf']);
/** Keywords with schemas by name. */
const NAMED = new Set(['properties', 'patternProperties', '$defs', 'definitions']);

const COUNT = Type.Integer({ minimum: 0 });
const TEXTS = Type.Array(Type.String());
/** The library allows the greatest 64-bit integer above a larger lower bound. */
const LEAST = Type.Number({ exclusiveMaximum: 2 ** 63 });
/** The library crashes if both bounds of an integer are at or below the least 64-bit integer. */
const MOST = Type.Number({ exclusiveMinimum: -(2 ** 63) });
const BELOW = 'a number below 2^63';
const ABOVE = 'a number above -2^63';

/** Keywords by the kind of their value. A wrong kind may panic: the library cuts its message inside a character. */
const KINDS: readonly (readonly [keys: string, rule: string, kind: TSchema])[] = [
  ['$ref pattern format', 'a string', Type.String()],
  ['type', 'a string or an array of strings', Type.Union([Type.String(), TEXTS])],
  ['required', 'an array of strings', TEXTS],
  ['enum anyOf oneOf allOf prefixItems', 'an array', Type.Array(Type.Unknown())],
  ['properties patternProperties', 'an object', Type.Record(Type.String(), Type.Unknown())],
  ['minLength maxLength minItems maxItems minProperties maxProperties', 'a whole number of at least 0', COUNT],
  ['multipleOf', 'a number', Type.Number()],
  ['minimum', BELOW, LEAST],
  ['maximum', ABOVE, MOST],
  // In draft 4 these two are booleans.
  ['exclusiveMinimum', BELOW, Type.Union([LEAST, Type.Boolean()])],
  ['exclusiveMaximum', ABOVE, Type.Union([MOST, Type.Boolean()])],
];

/** Formats that the library enforces. JSON Schema treats any other format as an annotation. */
const FORMATS = 'date-time time date duration email hostname ipv4 ipv6 uuid'.split(' ');
/** Most references in a row; more are a cycle. */
const MAX_HOPS = 16;
/** Share of the interval between two bounds that is lost next to an excluded bound. */
const MOVED = 1e-6;

function isSchemaObject(value: unknown): value is SchemaObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Copies a schema with its subschemas replaced. Values that are not schemas, such as `const` and `examples`, stay.
 * @param each replaces a direct subschema; `place` is its path: "items", "anyOf[1]", "properties.name"
 */
function mapSchemas(schema: SchemaObject, each: (schema: unknown, place: string) => unknown): SchemaObject {
  const replaced = (key: string, value: unknown): unknown => {
    if (DIRECT.has(key)) {
      return Array.isArray(value) ? value.map((item, index) => each(item, `${key}[${index}]`)) : each(value, key);
    }
    if (!NAMED.has(key) || !isSchemaObject(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, each(item, `${key}.${name}`)]));
  };
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, replaced(key, value)]));
}

/**
 * @param part of the grammar (errors.ts)
 * @param place path of the schema in its document; absent: it is the document
 * @throws GrammarError with the place of a keyword whose value has a wrong kind
 */
export function checkSchema(schema: unknown, part: number | null = null, place = ''): void {
  if (typeof schema === 'boolean') return;
  if (!isSchemaObject(schema))
    throw new GrammarError(
      `${place === '' ? 'it' : place} must be an object or a boolean, got ${quoted(schema)}`,
      part,
    );
  const before = place === '' ? '' : `${place}.`;
  for (const [keys, rule, kind] of KINDS)
    for (const key of keys.split(' ')) {
      // A null value passes: its error message is short, and the library ignores it where the keyword does not apply.
      const value = Object.hasOwn(schema, key) ? schema[key] : null;
      if (value !== null && !isValid(kind, value))
        throw new GrammarError(`${before}${key} must be ${rule}, got ${quoted(value)}`, part);
    }
  mapSchemas(schema, (each, at) => {
    checkSchema(each, part, before + at);
  });
}

/** @param document checked by checkSchema */
export function normalSchema(document: unknown): unknown {
  // A rewritten union would break a reference into it.
  const isKept = JSON.stringify(document).includes('/oneOf/');
  const normal = (schema: unknown, outer: unknown): unknown => {
    if (!isSchemaObject(schema)) return schema;
    const root = typeof schema.$id === 'string' ? schema : outer;
    const { oneOf, ...rest } = mapSchemas(schema, (each) => normal(each, root));
    const asking = apart(Object.fromEntries(Object.entries(rest).filter(([key, value]) => !isEmpty(key, value))));
    if (oneOf === undefined) return asking;
    const anyOf = isKept || 'anyOf' in asking || !Array.isArray(oneOf) ? null : branches(oneOf, root);
    return anyOf === null ? { ...asking, oneOf } : { ...asking, anyOf };
  };
  return normal(document, document);
}

/** Whether a keyword constrains nothing: zod's z.record states that property names are strings, which all are. */
function isEmpty(key: string, value: unknown): boolean {
  switch (key) {
    case 'propertyNames':
      return value === true || isDeepStrictEqual(value, {}) || isDeepStrictEqual(value, { type: 'string' });
    case 'uniqueItems':
      return value === false;
    case 'format':
      return typeof value === 'string' && !FORMATS.includes(value);
    default:
      return false;
  }
}

/**
 * A discriminated union: each branch lists different values of one property. At most one branch matches if the property
 * is present. The library recognizes this only if no branch is a reference.
 * @returns the branches, each of which requires the property, or null for another union
 */
function branches(union: readonly unknown[], root: unknown): unknown[] | null {
  const targets = union.map((branch) => resolved(branch, root)).filter((target) => target !== null);
  const [first] = targets;
  if (first === undefined || targets.length < union.length || !isSchemaObject(first.properties)) return null;
  const name = Object.keys(first.properties).find((each) => {
    const values = targets.map((target) => listed(target, each));
    const all = values.flatMap((some) => some ?? []);
    return !values.includes(null) && new Set(all).size === all.length;
  });
  if (name === undefined) return null;
  return union.map((branch, index) => {
    // pydantic does not require a property with a default, although its own parser of the union does.
    if (required(targets[index]).includes(name) || !isSchemaObject(branch)) return branch;
    return { ...branch, required: [...required(branch), name] };
  });
}

/** @param root value of "#" */
function resolved(schema: unknown, root: unknown): SchemaObject | null {
  let each = schema;
  for (let hops = 0; isSchemaObject(each) && '$ref' in each; hops++) {
    const { $ref } = each;
    // A schema with its own `$id` may have another root.
    each = typeof $ref === 'string' && !('$id' in each) && hops < MAX_HOPS ? referred($ref, root) : undefined;
  }
  return isSchemaObject(each) ? each : null;
}

/** Follows a reference by a JSON pointer. @returns undefined for any other, and where the pointer leads nowhere */
function referred(ref: string, root: unknown): unknown {
  const [start, ...steps] = ref.split('/');
  if (start !== '#') return undefined;
  return steps.reduce((value: unknown, step) => {
    if (typeof value !== 'object' || value === null) return undefined;
    const key = unescaped(step);
    return Object.hasOwn(value, key) ? (value as SchemaObject)[key] : undefined;
  }, root);
}

/** Decodes a step of a JSON pointer in a URI. */
function unescaped(step: string): string {
  let text = step;
  try {
    text = decodeURIComponent(step);
  } catch {
    // The step holds no valid escape sequence.
  }
  return text.replaceAll('~1', '/').replaceAll('~0', '~');
}

/** The values that a property allows, if the schema lists them and none is an object or array. */
function listed({ type, properties }: SchemaObject, name: string): readonly unknown[] | null {
  const property =
    type === 'object' && isSchemaObject(properties) && Object.hasOwn(properties, name) && properties[name];
  if (!isSchemaObject(property)) return null;
  const values: unknown = 'const' in property ? [property.const] : property.enum;
  return Array.isArray(values) && values.every((value) => typeof value !== 'object') ? values : null;
}

function required(schema: SchemaObject | undefined): readonly unknown[] {
  const names = schema?.required;
  return Array.isArray(names) ? names : [];
}

/**
 * For an interval from an excluded integer to a number with the same integer part, such as above 0 up to 0.3, the
 * library allows the excluded integer. The result states the nearest allowed number as an inclusive bound.
 */
function apart(schema: SchemaObject): SchemaObject {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, ...rest } = schema;
  const above = excluded(minimum, exclusiveMinimum);
  const below = excluded(maximum, exclusiveMaximum);
  const low = Math.max(above ?? -Infinity, numberOf(minimum) ?? -Infinity);
  const high = Math.min(below ?? Infinity, numberOf(maximum) ?? Infinity);
  if (!(low < high && high - low < 1)) return schema;
  if (low >= 0 && low === above && Number.isInteger(low)) {
    const least = low + (high - low) * MOVED;
    return { ...rest, minimum: least > low ? least : high, ...kept({ maximum, exclusiveMaximum }) };
  }
  if (high <= 0 && high === below && Number.isInteger(high)) {
    const most = high - (high - low) * MOVED;
    return { ...rest, ...kept({ minimum, exclusiveMinimum }), maximum: most < high ? most : low };
  }
  return schema;
}

/** An excluded bound, or null. @param exclusive in draft 4: whether `bound` is excluded */
function excluded(bound: unknown, exclusive: unknown): number | null {
  return numberOf(exclusive === true ? bound : exclusive);
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}

function kept(bounds: SchemaObject): SchemaObject {
  return Object.fromEntries(Object.entries(bounds).filter(([, bound]) => bound !== undefined));
}
