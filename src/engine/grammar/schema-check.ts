/**
 * Whether the keywords of a caller's schema have values of the right kind, and how deep it gets.
 *
 * The library panics on some that have not (it cuts what it complains of within a character) and overflows its stack on
 * long chains of references, and a panic takes every other answer along. No meta-schema fits: the library reads keywords
 * of all drafts in one schema, follows references to places where no draft has schemas, and minds no annotations.
 *
 * Knows: what the library reads. Must not know: which schemas can be kept to.
 */
import Type, { type TSchema } from 'typebox';
import Value from 'typebox/value';
import { shown } from '../../errors.js';
import { isSchemaObject, mapSchemas, referred, type SchemaObject } from './keywords.js';

/** A schema that is none; the message is meant for the caller. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError';

  constructor(
    message: string,
    /** Index of the function whose schema it is, where it is known. */
    readonly part: number | null = null,
  ) {
    super(message);
  }
}

interface Rule {
  readonly type: TSchema;
  readonly rule: string;
}

const COUNT: Rule = { type: Type.Integer({ minimum: 0 }), rule: 'a whole number of at least 0' };
const NUMBER: Rule = { type: Type.Number(), rule: 'a number' };
/** The fourth draft's are booleans. */
const EXCLUSIVE: Rule = { type: Type.Union([Type.Number(), Type.Boolean()]), rule: 'a number' };
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
  minimum: NUMBER,
  maximum: NUMBER,
  exclusiveMinimum: EXCLUSIVE,
  exclusiveMaximum: EXCLUSIVE,
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

/** Schemas that "#" may mean: every reference is looked up in each of them. */
const MAX_IDS = 16;
/** Schemas within each other, references followed: the library's stack took 400 and not 540. */
const MAX_LEVELS = 256;

/** null is short, and asks for nothing where the keyword does not apply: the library may say so. */
function checkKeywords(schema: SchemaObject, before: string): void {
  for (const [key, { type, rule }] of Object.entries(RULES)) {
    const value = Object.hasOwn(schema, key) ? schema[key] : null;
    if (value === null || Value.Check(type, value)) continue;
    throw new SchemaError(`${before}${key} must be ${rule}, got ${shown(value)}`);
  }
}

/** @throws SchemaError that names the place, at the first keyword whose value is of another kind */
export function checkSchema(document: unknown): void {
  /** Levels from each schema on; 0 of one within itself. */
  const seen = new Map<unknown, number>();
  const roots: unknown[] = [document];
  /** With the place of the first that says it. */
  const refs = new Map<string, string>();
  const levelsOf = (schema: unknown, place: string, depth: number): number => {
    if (typeof schema === 'boolean') return 1;
    if (!isSchemaObject(schema)) {
      throw new SchemaError(`${place === '' ? 'it' : place} must be an object or a boolean, got ${shown(schema)}`);
    }
    const known = seen.get(schema);
    if (known !== undefined) return known;
    seen.set(schema, 0);
    const before = place === '' ? '' : `${place}.`;
    checkKeywords(schema, before);
    let below = 0;
    const enter = (value: unknown, at: string): void => {
      below = Math.max(below, levelsOf(value, at, depth + 1));
      if (Math.max(below, depth) >= MAX_LEVELS) {
        throw new SchemaError(`it must have at most ${MAX_LEVELS} schemas within each other, references followed`);
      }
    };
    // What is referred to may lie where no schema is looked for.
    const follow = (ref: string, root: unknown): void => {
      const target = referred(ref, root);
      if (target !== undefined) enter(target, `${refs.get(ref) ?? ''}$ref (${shown(ref)})`);
    };
    const { $id, $ref } = schema;
    if (typeof $id === 'string' && schema !== document) {
      if (roots.push(schema) > MAX_IDS) throw new SchemaError(`it must have at most ${MAX_IDS} $id`);
      for (const ref of [...refs.keys()]) follow(ref, schema);
    }
    if (typeof $ref === 'string') {
      if (!refs.has($ref)) refs.set($ref, before);
      for (const root of [...roots]) follow($ref, root);
    }
    mapSchemas(schema, (each, at) => {
      enter(each, before + at);
    });
    seen.set(schema, below + 1);
    return below + 1;
  };
  levelsOf(document, '', 1);
}
