/**
 * Builders of JSON schemas, and the check of a value against one.
 *
 * The types are TypeBox's, and so is the check (`typebox/schema`). TypeBox's own builders and `typebox/value` load 530
 * more modules, which takes 0.25 s of the start of each process. No schema here needs their transformations.
 * `schema.test.ts` compares the builders with TypeBox's.
 */
import type * as TypeBox from 'typebox';
import type { Static, TLiteral, TNull, TOptional, TProperties, TSchema, TUnion } from 'typebox';
import type { TLocalizedValidationError } from 'typebox/error';
import { Check, Errors } from 'typebox/schema';

export type { Static, TObject, TSchema } from 'typebox';

type Schema = Readonly<Record<string, unknown>>;
type Properties = Readonly<Record<string, Schema>>;

/** Mark of an optional property, which Object leaves out of `required`. As in TypeBox, JSON does not show it. */
const OPTIONAL = '~optional';

const optional = (schema: Schema): Schema =>
  Object.defineProperty({ ...schema }, OPTIONAL, { value: true, enumerable: false });

function object(properties: Properties, options: Schema = {}): Schema {
  const required = Object.keys(properties).filter((key) => properties[key]?.[OPTIONAL] !== true);
  return { type: 'object', ...(required.length > 0 && { required }), properties, ...options };
}

const builders = {
  Object: object,
  Optional: optional,
  Array: (items: Schema, options?: Schema): Schema => ({ type: 'array', items, ...options }),
  Tuple: (items: readonly Schema[], options?: Schema): Schema => ({
    ...{ type: 'array', additionalItems: false, items, minItems: items.length },
    ...options,
  }),
  Record: ({ pattern = '^.*$' }: { pattern?: string }, value: Schema, options?: Schema): Schema => ({
    ...{ type: 'object', patternProperties: { [pattern]: value } },
    ...options,
  }),
  Union: (anyOf: readonly Schema[], options?: Schema): Schema => ({ anyOf, ...options }),
  Literal: (value: string | number | boolean, options?: Schema): Schema => ({
    ...{ type: typeof value, const: value },
    ...options,
  }),
  String: (options?: Schema): Schema => ({ type: 'string', ...options }),
  Number: (options?: Schema): Schema => ({ type: 'number', ...options }),
  Integer: (options?: Schema): Schema => ({ type: 'integer', ...options }),
  Boolean: (options?: Schema): Schema => ({ type: 'boolean', ...options }),
  Null: (options?: Schema): Schema => ({ type: 'null', ...options }),
  Unknown: (options?: Schema): Schema => ({ ...options }),
  Unsafe: (schema: Schema): Schema => ({ ...schema }),
  // The options of the schema are dropped, as in TypeBox.
  Omit: ({ properties }: { properties: Properties }, keys: readonly string[]): Schema =>
    object(Object.fromEntries(Object.entries(properties).filter(([key]) => !keys.includes(key)))),
  Partial: ({ properties }: { properties: Properties }): Schema =>
    object(Object.fromEntries(Object.entries(properties).map(([key, value]) => [key, optional(value)]))),
};

/** TypeBox's builders, with its types. */
export const Type = builders as unknown as Pick<typeof TypeBox, keyof typeof builders>;

/** The fields of an object, each of them optional. */
export function allOptional<const T extends TProperties>(fields: T) {
  const entries = Object.entries(fields).map(([name, type]) => [name, Type.Optional(type)]);
  return Object.fromEntries(entries) as { [K in keyof T]: TOptional<T[K]> };
}

/** One of these words. */
export function words<const T extends string[]>(values: readonly [...T], options?: Schema) {
  type Words = TUnion<{ [K in keyof T]: TLiteral<T[K]> }>;
  return Type.Union(
    values.map((value) => Type.Literal(value)),
    options,
  ) as unknown as Words;
}

/** A type, or null. */
export function nullable<const T extends TSchema>(type: T, options?: Schema) {
  const types = 'anyOf' in type ? (type.anyOf as T[]) : [type];
  return Type.Union([...types, Type.Null()], options) as unknown as TUnion<[T, TNull]>;
}

/** Whether the value has the shape of the schema. */
export function isValid<const T extends TSchema>(schema: T, value: unknown): value is Static<T> {
  return Check(schema, value);
}

/** The faults of a value; empty if it has the shape of the schema. */
export function faultsOf(schema: TSchema, value: unknown): TLocalizedValidationError[] {
  return Errors(schema, value)[1];
}
