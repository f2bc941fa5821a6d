/** TypeBox, and the builders that the schemas of this server need beside it. */
import Type, {
  type Static,
  type TLiteral,
  type TNull,
  type TOptional,
  type TProperties,
  type TSchema,
  type TSchemaOptions,
  type TUnion,
} from 'typebox';
import type { TLocalizedValidationError } from 'typebox/error';
import { Check, Compile, Errors } from 'typebox/schema';

export type { Static, TObject, TSchema } from 'typebox';
export { default as Type } from 'typebox';

/** The fields of an object, each of them optional. */
export function allOptional<const T extends TProperties>(fields: T) {
  const entries = Object.entries(fields).map(([name, type]) => [name, Type.Optional(type)]);
  return Object.fromEntries(entries) as { [K in keyof T]: TOptional<T[K]> };
}

/** One of these words. */
export function words<const T extends string[]>(values: readonly [...T], options?: TSchemaOptions) {
  type Words = TUnion<{ [K in keyof T]: TLiteral<T[K]> }>;
  return Type.Union(
    values.map((value) => Type.Literal(value)),
    options,
  ) as unknown as Words;
}

/** A type, or null. */
export function nullable<const T extends TSchema>(type: T, options?: TSchemaOptions) {
  const types = 'anyOf' in type ? (type.anyOf as T[]) : [type];
  return Type.Union([...types, Type.Null()], options) as unknown as TUnion<[T, TNull]>;
}

/** Whether the value has the shape of the schema. */
export function isValid<const T extends TSchema>(schema: T, value: unknown): value is Static<T> {
  return Check(schema, value);
}

/** As `isValid`, by code that is made at the first value: for a schema that many requests have. */
export function validatorOf<const T extends TSchema>(schema: T): (value: unknown) => value is Static<T> {
  let made: ReturnType<typeof Compile> | null = null;
  return (value): value is Static<T> => (made ??= Compile(schema)).Check(value);
}

/** The faults of a value; empty if it has the shape of the schema. */
export function faultsOf(schema: TSchema, value: unknown): TLocalizedValidationError[] {
  return Errors(schema, value)[1];
}
