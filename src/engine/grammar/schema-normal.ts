/**
 * Schemas as clients generate them, said in the keywords that the library has and keeps to. Every answer that the result
 * allows is one that the schema allows.
 *
 * Knows: what pydantic, zod and OpenAPI write. Must not know: the library's grammars, callers.
 */
import { isDeepStrictEqual } from 'node:util';
import { isSchemaObject, mapSchemas, referred, type SchemaObject } from './keywords.js';

/** Those that the library keeps to. Any other is an annotation, as JSON Schema has it. */
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
/** More references in a row are a circle. */
const MAX_HOPS = 16;

/** Whether a keyword asks for nothing. The names of properties are always strings: z.record says so. */
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

/** @param root what "#" means */
function resolved(schema: unknown, root: unknown): SchemaObject | null {
  let each = schema;
  for (let hops = 0; isSchemaObject(each) && '$ref' in each; hops++) {
    const { $ref } = each;
    // One that names a document, or has one of its own, may mean another root.
    const isLocal = typeof $ref === 'string' && $ref.startsWith('#') && !('$id' in each);
    each = isLocal && hops < MAX_HOPS ? referred($ref, root) : undefined;
  }
  return isSchemaObject(each) ? each : null;
}

/** What a property of an object may be, where that is listed: no objects and arrays. */
function listed({ type, properties }: SchemaObject, name: string): readonly unknown[] | null {
  const property =
    type === 'object' && isSchemaObject(properties) && Object.hasOwn(properties, name) && properties[name];
  if (!isSchemaObject(property)) return null;
  const values: unknown = 'const' in property ? [property.const] : property.enum;
  return Array.isArray(values) && values.every((value) => typeof value !== 'object') ? values : null;
}

/**
 * A union whose branches tell themselves apart by a property that each lists other values of: at most one can match, if
 * the property is there. The library sees that by itself only where no branch is a reference.
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
    // pydantic does not require what has a default, though its own reading of the union does.
    if (required(targets[index]).includes(name) || !isSchemaObject(branch)) return branch;
    return { ...branch, required: [...required(branch), name] };
  });
}

function required(schema: SchemaObject | undefined): readonly unknown[] {
  const names = schema?.required;
  return Array.isArray(names) ? names : [];
}

/** How much of what lies between two bounds an answer can't be, next to one that is excluded. */
const MOVED = 1e-6;

/**
 * Of numbers between a whole one that is excluded and one with the same whole part, as above 0 up to 0.3, the library
 * allows the excluded one. So that bound is said as the nearest one that may be.
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

/** A bound that no answer may be, or null. @param exclusive in the fourth draft whether the other one is excluded */
function excluded(bound: unknown, exclusive: unknown): number | null {
  return numberOf(exclusive === true ? bound : exclusive);
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}

function kept(bounds: SchemaObject): SchemaObject {
  return Object.fromEntries(Object.entries(bounds).filter(([, bound]) => bound !== undefined));
}

/** @param document checked (schema-check.ts) */
export function normalSchema(document: unknown): unknown {
  // A reference into a union would lose its place.
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
