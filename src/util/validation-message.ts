/**
 * What breaks the schema of a file, in words for whoever wrote the file.
 *
 * Knows: TypeBox's errors. Must not know: which file. Names the place and the rule, never the value: it may be a key.
 */
import type { TSchema } from 'typebox';
import type { TLocalizedValidationError } from 'typebox/error';
import { Value } from 'typebox/value';

/** The first fault; null where there is none. */
export function validationMessage(schema: TSchema, value: unknown): string | null {
  const errors = Value.Errors(schema, value);
  const fault = firstOf(errors);
  if (fault === undefined) return null;
  const place = fault.instancePath === '' ? '/' : fault.instancePath;
  // What a closed object does not have is held against the schema `false`.
  if (fault.keyword === 'boolean') return `${place} is no field of this file`;
  if (!isOther(fault)) return `${place} ${fault.message}`;
  const allowed = allowedBy(errors.filter(({ instancePath }) => instancePath === fault.instancePath));
  return `${place} must be ${allowed.join(' or ')}`;
}

/** Whether it is another value, or of another type, than a schema or one branch of a union is for. */
function isOther({ keyword }: TLocalizedValidationError): boolean {
  return keyword === 'type' || keyword === 'const';
}

/** Each branch of a union has its fault: the one that is for such values has it further down. */
function firstOf(errors: readonly TLocalizedValidationError[]): TLocalizedValidationError | undefined {
  const [first] = errors;
  if (first === undefined || !isOther(first)) return first;
  return errors.find(({ instancePath }) => instancePath.startsWith(`${first.instancePath}/`)) ?? first;
}

/** The values that are allowed at one place, and the types of which any value is. */
function allowedBy(errors: readonly TLocalizedValidationError[]): unknown[] {
  const values = errors.flatMap(({ keyword, params }) => (keyword === 'const' ? [params.allowedValue] : []));
  const types = errors.flatMap(({ keyword, params }) => (keyword === 'type' ? params.type : []));
  // A value that is allowed has its type told as well.
  return [...values, ...types.filter((type) => !values.some((value) => typeof value === type))];
}
