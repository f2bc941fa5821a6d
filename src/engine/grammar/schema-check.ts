/**
 * Whether the keywords of a caller's schema have values of the right kind, how deep it gets, and how large.
 *
 * The library panics on some that have not (it cuts what it complains of within a character), overflows its stack on
 * long chains of references, runs out of memory on unions that it multiplies out and looks for minutes at patterns and
 * multiples that meet, and all other answers wait while its thread is replaced. No meta-schema fits: the library reads
 * keywords of all drafts in one schema, follows references to places where no draft has schemas, and minds no annotations.
 *
 * Knows: what the library reads. Must not know: which schemas can be kept to.
 */
import Type, { type TSchema } from 'typebox';
import Value from 'typebox/value';
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
/** Above more than the greatest integer of 64 bits the library allows that one. */
const BELOW = { exclusiveMaximum: 2 ** 63 };
const LEAST: Rule = { type: Type.Number(BELOW), rule: 'a number below 2^63' };
/** Between bounds of integers that are both the least one of 64 bits or below, the library looks without end. */
const ABOVE = { exclusiveMinimum: -(2 ** 63) };
const MOST: Rule = { type: Type.Number(ABOVE), rule: 'a number above -2^63' };
/** The fourth draft's are booleans. */
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

/** Schemas that "#" may mean beside the document: every reference is looked up in each of them. */
const MAX_IDS = 16;
/** Schemas within each other, references followed: the library's stack took 400 and not 540. */
const MAX_LEVELS = 256;

/** null is short, and asks for nothing where the keyword does not apply: the library may say so. */
function checkKeywords(schema: SchemaObject, before: string): void {
  for (const [key, { type, rule }] of Object.entries(RULES)) {
    const value = Object.hasOwn(schema, key) ? schema[key] : null;
    if (value === null || Value.Check(type, value)) continue;
    throw new SchemaError(`${before}${key} must be ${rule}, got ${quoted(value)}`);
  }
}

/**
 * All schemas that the library may read as such, each with its keywords checked.
 * @throws SchemaError that names the place, at a keyword whose value is of another kind
 */
function schemasOf(document: unknown): ReadonlyMap<SchemaObject, SchemaNode> {
  const nodes = new Map<SchemaObject, SchemaNode>();
  const roots: unknown[] = [document];
  /** Who says it. */
  const refs = new Map<string, SchemaNode[]>();
  const found: { readonly value: unknown; readonly place: string }[] = [{ value: document, place: '' }];
  // What is referred to may lie where no schema is looked for.
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
 * @param expansion how much was multiplied out before, where several schemas are one grammar
 * @throws SchemaError that names the place, at a keyword whose value is of another kind, or what it has too much of
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
