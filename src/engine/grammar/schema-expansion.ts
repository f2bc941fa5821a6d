/**
 * Predicts how many schemas the library builds when it intersects schemas. Where unions intersect, it multiplies out
 * their branches: eleven unions of two in an `allOf` become 2,048 objects.
 */
import { isSchemaObject, type SchemaObject } from './keywords.js';
import { SchemaError } from './schema-error.js';
import type { SchemaNode } from './schema-levels.js';

/**
 * Most schemas that intersections may produce. The library takes a second or two for as many, and crashes at four times
 * as many (2 cores of a Xeon). The length of the text bounds schemas without an intersection.
 */
const MAX_SCHEMAS = 8192;
/**
 * Most patterns and formats on one string, and most `patternProperties` on one object. The library's time doubles with
 * each pattern (14 take 15 s), and grows with the cube of the number of pattern properties (400 take 14 s).
 */
const MAX_PATTERNS = [
  { mark: '/', most: 8, what: 'patterns and formats that one text keeps to' },
  { mark: '?', most: 32, what: 'patternProperties that hold together' },
];
/** Most branches of a type that are counted. More of them exceed MAX_SCHEMAS at the first intersection. */
const MAX_BRANCHES = MAX_SCHEMAS + 1;

/**
 * Subschemas by key: ".name" and "*" of an object, "[0]" and "[]" of an array. Constraints have keys as well:
 * "/pattern" of a string, "?pattern" of an object's property names.
 */
type Branch = ReadonlyMap<string, () => Union>;
/** The branches of each type; null is anything. */
type Union = ReadonlyMap<string, readonly Branch[]> | null;

/** Size of the schemas that were checked so far. */
export interface Expansion {
  count: number;
  /** Remainders of `multipleOf` (schema-multiple-of.ts). */
  remainders: number;
}

export const noExpansion = (): Expansion => ({ count: 0, remainders: 0 });

const TYPES = ['null', 'boolean', 'number', 'string', 'array', 'object'];
/** Keywords that constrain a value without a `type`. */
const OF_TYPES = [
  ...['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  ...['minLength', 'maxLength', 'pattern', 'format'],
  ...['items', 'additionalItems', 'prefixItems', 'minItems', 'maxItems'],
  ...['properties', 'patternProperties', 'additionalProperties', 'required', 'minProperties', 'maxProperties'],
];
const LEAF: Branch = new Map();
/** Recursive schemas intersect without end beyond this depth; the library rejects them itself. */
const MAX_LEVELS = 256;

/**
 * @param nodes checked by schema-check.ts, nested at most a few hundred levels deep
 * @param expansion grows by the schemas of this document
 * @throws SchemaError with the place at which the expansion exceeds a limit
 */
export function expandSchemas(nodes: ReadonlyMap<SchemaObject, SchemaNode>, expansion: Expansion): void {
  const known = new Map<SchemaObject, Union>();
  const unionOf = (schema: unknown): Union => {
    if (schema === false) return new Map();
    if (!isSchemaObject(schema)) return null;
    const before = known.get(schema);
    if (before !== undefined) return before;
    // Inside itself a schema stays a reference.
    known.set(schema, null);
    const { place = '', targets = [] } = nodes.get(schema) ?? {};
    const { allOf, anyOf, oneOf } = schema;
    // A reference may resolve in several documents: the largest target counts.
    const meant = targets.map(unionOf).sort((a, b) => sizeOf(b) - sizeOf(a))[0] ?? null;
    const parts = [ownOf(schema, place, unionOf), meant, either(anyOf, unionOf), either(oneOf, unionOf)];
    if (Array.isArray(allOf)) parts.push(...allOf.map(unionOf));
    const union = parts.reduce((a, b) => intersect(a, b, { expansion, place, level: 1 }));
    known.set(schema, union);
    return union;
  };
  for (const schema of nodes.keys()) unionOf(schema);
}

function sizeOf(union: Union): number {
  return union === null ? 1 : [...union.values()].reduce((sum, branches) => sum + branches.length, 0);
}

function either(options: unknown, unionOf: (schema: unknown) => Union): Union {
  if (!Array.isArray(options)) return null;
  const all = new Map<string, readonly Branch[]>();
  for (const option of options) {
    const union = unionOf(option);
    if (union === null) return null;
    for (const [type, branches] of union) all.set(type, joined(all.get(type), branches));
  }
  return all;
}

/** At most MAX_BRANCHES; each input already is. */
function joined(some: readonly Branch[] = [], more: readonly Branch[]): readonly Branch[] {
  if (some.length === 0) return more;
  return some.length >= MAX_BRANCHES ? some : [...some, ...more].slice(0, MAX_BRANCHES);
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

/** The union of a schema without its allOf, anyOf, oneOf and $ref. */
function ownOf(schema: SchemaObject, place: string, unionOf: (schema: unknown) => Union): Union {
  const { type, const: value, enum: values } = schema;
  const types = new Set<unknown>([type ?? TYPES].flat().map((each) => (each === 'integer' ? 'number' : each)));
  const isFree = (type ?? null) === null && OF_TYPES.every((key) => (schema[key] ?? null) === null);
  const listed: unknown = value === undefined ? values : [value];
  if (Array.isArray(listed)) {
    const all = new Map<string, readonly Branch[]>();
    for (const name of listed.map(typeOf)) {
      if (types.has(name)) all.set(name, joined(all.get(name), [LEAF]));
    }
    return all;
  }
  if (isFree) return null;
  const below: Readonly<Record<string, Branch>> = {
    string: text(schema),
    object: members(schema, unionOf),
    array: items(schema, unionOf),
  };
  checkPatterns(below.object ?? LEAF, place);
  return new Map(TYPES.filter((name) => types.has(name)).map((name) => [name, [below[name] ?? LEAF]]));
}

const NOTHING = (): Union => null;

function text({ pattern, format }: SchemaObject): Branch {
  const kept = new Map<string, () => Union>();
  if (typeof pattern === 'string') kept.set(`/pattern ${pattern}`, NOTHING);
  if (typeof format === 'string') kept.set(`/format ${format}`, NOTHING);
  return kept;
}

function members(schema: SchemaObject, unionOf: (schema: unknown) => Union): Branch {
  const { properties, patternProperties, additionalProperties: rest } = schema;
  const below = new Map<string, () => Union>();
  if (isSchemaObject(properties)) {
    for (const [name, each] of Object.entries(properties)) below.set(`.${name}`, () => unionOf(each));
  }
  if (isSchemaObject(patternProperties))
    for (const name of Object.keys(patternProperties)) below.set(`?${name}`, NOTHING);
  if (rest !== undefined) below.set('*', () => unionOf(rest));
  return below;
}

function items(schema: SchemaObject, unionOf: (schema: unknown) => Union): Branch {
  const { items: each, prefixItems, additionalItems } = schema;
  const isOld = Array.isArray(each);
  const first: unknown = isOld ? each : prefixItems;
  const rest = isOld ? additionalItems : each;
  const below = new Map<string, () => Union>();
  if (Array.isArray(first)) first.forEach((item, index) => below.set(`[${index}]`, () => unionOf(item)));
  if (rest !== undefined) below.set('[]', () => unionOf(rest));
  return below;
}

interface Meeting {
  readonly expansion: Expansion;
  readonly place: string;
  readonly level: number;
}

function intersect(a: Union, b: Union, meeting: Meeting): Union {
  if (a === null || meeting.level > MAX_LEVELS) return b;
  if (b === null) return a;
  const met = new Map<string, Branch[]>();
  for (const [type, some] of a) {
    const others = b.get(type) ?? [];
    const isProduct = some.length * others.length > 1;
    const branches = some.flatMap((one) => others.map((other) => merge(one, other, isProduct, meeting)));
    if (branches.length > 0) met.set(type, branches);
  }
  return met;
}

/** @param isProduct whether the intersection has several branches, each of which is a copy */
function merge(one: Branch, other: Branch, isProduct: boolean, { expansion, place, level }: Meeting): Branch {
  const merged = new Map(other);
  const restOf = (branch: Branch, key: string) =>
    branch.get(key.startsWith('.') ? '*' : key.startsWith('[') ? '[]' : '');
  const below = { expansion, place, level: level + 1 };
  for (const [key, left] of one) {
    const right = other.get(key) ?? restOf(other, key);
    const both = right === undefined ? null : intersect(left(), right(), below);
    merged.set(key, right === undefined ? left : () => both);
  }
  for (const [key, right] of other) {
    const left = one.has(key) ? undefined : restOf(one, key);
    const both = left === undefined ? null : intersect(left(), right(), below);
    if (left !== undefined) merged.set(key, () => both);
  }
  expansion.count += isProduct ? 1 + merged.size : 1;
  if (expansion.count > MAX_SCHEMAS) {
    throw new SchemaError(
      `${place === '' ? 'it' : place} must be at most ${MAX_SCHEMAS} schemas where what meets in it ` +
        `(allOf, anyOf and oneOf beside other keywords, $ref) is multiplied out, got more`,
    );
  }
  checkPatterns(merged, place);
  return merged;
}

function checkPatterns(branch: Branch, place: string): void {
  for (const { mark, most, what } of MAX_PATTERNS) {
    let count = 0;
    for (const key of branch.keys()) if (key.startsWith(mark)) count++;
    if (count > most) {
      throw new SchemaError(`${place === '' ? 'it' : place} must have at most ${most} ${what}, got ${count}`);
    }
  }
}
