/**
 * Rewrites schemas of pydantic, zod and OpenAPI in keywords that the library supports. The original schema allows every
 * answer that the result allows.
 */
import { isDeepStrictEqual } from 'node:util';
import { isSchemaObject, mapSchemas, referred, type SchemaObject } from './keywords.js';

/** Formats that the library enforces. JSON Schema treats any other format as an annotation. */
const FORMATS: ReadonlySet<unknown> = new Set([
  'date-time',
  'time',
  'date',
  'duration',
  'email',
  'hostname',
  'ipv4',
  'ipv6',
  'uuid',
]);
/** Most references in a row; more are a cycle. */
const MAX_HOPS = 16;

/**
 * Whether a keyword constrains nothing. zod's z.record states that property names are strings, which they always are.
 */
function isEmpty(key: string, value: unknown): boolean {
  switch (key) {
    case 'propertyNames':
      return value === true || isDeepStrictEqual(value, {}) || isDeepStrictEqual(value, { type: 'string' });
    case 'uniqueItems':
      return value === false;
    case 'format':
      return typeof value === 'string' && !FORMATS.has(value);
    default:
      return false;
  }
}

/** @param root value of "#" */
function resolved(schema: unknown, root: unknown): SchemaObject | null {
  let each = schema;
  for (let hops = 0; isSchemaObject(each) && '$ref' in each; hops++) {
    const { $ref } = each;
    // A reference that names a document, or a schema with its own `$id`, may have another root.
    const isLocal = typeof $ref === 'string' && $ref.startsWith('#') && !('$id' in each);
    each = isLocal && hops < MAX_HOPS ? referred($ref, root) : undefined;
  }
  return isSchemaObject(each) ? each : null;
}

/** The values that a property allows, if the schema lists them and none is an object or array. */
function listed({ type, properties }: SchemaObject, name: string): readonly unknown[] | null {
  const property =
    type === 'object' && isSchemaObject(properties) && Object.hasOwn(properties, name) && properties[name];
  if (!isSchemaObject(property)) return null;
  const values: unknown = 'const' in property ? [property.const] : property.enum;
  return Array.isArray(values) && values.every((value) => typeof value !== 'object') ? values : null;
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

function required(schema: SchemaObject | undefined): readonly unknown[] {
  const names = schema?.required;
  return Array.isArray(names) ? names : [];
}

/** Share of the interval between two bounds that is lost next to an excluded bound. */
const MOVED = 1e-6;

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

/** @param document checked by schema-check.ts */
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
