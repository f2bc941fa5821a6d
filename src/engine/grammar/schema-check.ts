/**
 * Checks the kinds of a schema's keywords, its depth and its size before the grammar library reads it.
 *
 * Some schemas crash the library or stall it for minutes, and all other constrained answers then wait for a new worker:
 *
 * - a value of a wrong kind panics: the library truncates its error message inside a character;
 * - a long chain of references overflows its stack;
 * - unions that intersect exhaust its memory (schema-expansion.ts);
 * - patterns and multiples that intersect take minutes (schema-expansion.ts, schema-multiple-of.ts).
 *
 * No meta-schema fits. The library accepts keywords of all drafts in one schema, follows references to places that hold
 * no schema in any draft, and ignores annotations. A trial compilation in a worker of its own catches the same schemas,
 * at seconds of processor time for each. The supervisor alone keeps other answers alive at .5 tokens/s instead of 39
 * (bench/results/adversary.md).
 */
import { isValid, type TSchema, Type } from '../../util/schema.js';
import { isSchemaObject, mapSchemas, referred, type SchemaObject } from './keywords.js';
import { SchemaError } from './schema-error.js';
import { levelsOf, type SchemaNode } from './schema-levels.js';
import { countMultiples } from './schema-multiple-of.js';
import { expandSchemas, noExpansion } from './schema-expansion.js';
import { quoted } from '../../util/quoted.js';

interface Rule {
  readonly type: TSchema;
  readonly rule: string;
}

const COUNT: Rule = { type: Type.Integer({ minimum: 0 }), rule: 'a whole number of at least 0' };
const NUMBER: Rule = { type: Type.Number(), rule: 'a number' };
/** For a lower bound above the greatest 64-bit integer, the library allows that integer. */
const BELOW = { exclusiveMaximum: 2 ** 63 };
const LEAST: Rule = { type: Type.Number(BELOW), rule: 'a number below 2^63' };
/** The library does not terminate if both bounds of an integer are at or below the least 64-bit integer. */
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

/** Most schemas with an `$id`. A "#" may refer to each of them, so every reference is resolved in all. */
const MAX_IDS = 16;
/** Most nested schemas, with references followed. The library's stack held 400 and overflowed at 540. */
const MAX_LEVELS = 256;

/** A null value passes: its error message is short, and the library ignores it where the keyword does not apply. */
function checkKeywords(schema: SchemaObject, before: string): void {
  for (const [key, { type, rule }] of Object.entries(RULES)) {
    const value = Object.hasOwn(schema, key) ? schema[key] : null;
    if (value === null || isValid(type, value)) continue;
    throw new SchemaError(`${before}${key} must be ${rule}, got ${quoted(value)}`);
  }
}

/**
 * Collects all schemas that the library may read, with their keywords checked.
 * @throws SchemaError with the place of a keyword whose value has a wrong kind
 */
function schemasOf(document: unknown): ReadonlyMap<SchemaObject, SchemaNode> {
  const nodes = new Map<SchemaObject, SchemaNode>();
  const roots: unknown[] = [document];
  /** Schemas with the reference, by its text. */
  const refs = new Map<string, SchemaNode[]>();
  const found: { readonly value: unknown; readonly place: string }[] = [{ value: document, place: '' }];
  // A reference may lead to a place that holds no schema in any draft.
  const follow = (ref: string, root: unknown, from: readonly SchemaNode[]): void => {
    const target = referred(ref, root);
    if (target === undefined) return;
    const [{ place } = { place: '' }] = from;
    found.push({ value: target, place: `${place === '' ? '' : `${place}.`}$ref (${quoted(ref)})` });
    if (isSchemaObject(target)) for (const node of from) node.targets.push(target);
  };
  for (const { value, place } of found) {
    if (typeof value === 'boolean') continue;
    if (!isSchemaObject(value)) {
      throw new SchemaError(`${place === '' ? 'it' : place} must be an object or a boolean, got ${quoted(value)}`);
    }
    if (nodes.has(value)) continue;
    const before = place === '' ? '' : `${place}.`;
    checkKeywords(value, before);
    const node: SchemaNode = { place, parts: [], targets: [] };
    nodes.set(value, node);
    mapSchemas(value, (each, at) => {
      found.push({ value: each, place: before + at });
      node.parts.push(each);
    });
    const { $id, $ref } = value;
    if (typeof $id === 'string' && value !== document) {
      if (roots.push(value) - 1 > MAX_IDS) throw new SchemaError(`it must have at most ${MAX_IDS} $id`);
      for (const [ref, from] of refs) follow(ref, value, from);
    }
    if (typeof $ref === 'string') {
      const from = refs.get($ref);
      refs.set($ref, [...(from ?? []), node]);
      for (const root of roots) follow($ref, root, [node]);
    }
  }
  return nodes;
}

/**
 * @param expansion size of the schemas of the same grammar that were checked earlier
 * @throws SchemaError with the place of a keyword whose value has a wrong kind, or with the limit that is exceeded
 */
export function checkSchema(document: unknown, expansion = noExpansion()): void {
  const nodes = schemasOf(document);
  const levels = levelsOf(nodes);
  if (levels > MAX_LEVELS) {
    throw new SchemaError(
      `it must have at most ${MAX_LEVELS} schemas within each other, references followed, got ${levels}`,
    );
  }
  countMultiples(nodes.keys(), expansion);
  expandSchemas(nodes, expansion);
}
