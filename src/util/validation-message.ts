/**
 * Messages for a file that breaks its schema, for the author of the file.
 *
 * A message names the place and the rule, never the value, because the value may be a key.
 */
import { faultsOf, type TSchema } from './schema.js';
import type { TLocalizedValidationError } from 'typebox/error';

/** The message of the first fault; null if the value is valid. */
export function validationMessage(schema: TSchema, value: unknown): string | null {
  const errors = faultsOf(schema, value);
  const fault = firstOf(errors);
  if (fault === undefined) return null;
  const place = fault.instancePath === '' ? '/' : fault.instancePath;
  // TypeBox checks an unknown field of a closed object against the schema `false`.
  if (fault.keyword === 'boolean') return `${place} is not a field of this file`;
  if (!isOther(fault)) return `${place} ${fault.message}`;
  const allowed = allowedBy(errors.filter(({ instancePath }) => instancePath === fault.instancePath));
  return `${place} must be ${allowed.join(' or ')}`;
}

/** Whether the value or its type differs from the one that a schema, or one branch of a union, expects. */
function isOther({ keyword }: TLocalizedValidationError): boolean {
  return keyword === 'type' || keyword === 'const';
}

/** Each branch of a union reports a fault. The branch that fits such values reports it further down. */
function firstOf(errors: readonly TLocalizedValidationError[]): TLocalizedValidationError | undefined {
  const [first] = errors;
  if (first === undefined || !isOther(first)) return first;
  return errors.find(({ instancePath }) => instancePath.startsWith(`${first.instancePath}/`)) ?? first;
}

/** The values allowed at one place, and the types of which any value is allowed. */
function allowedBy(errors: readonly TLocalizedValidationError[]): unknown[] {
  const values = errors.flatMap(({ keyword, params }) => (keyword === 'const' ? [params.allowedValue] : []));
  const types = errors.flatMap(({ keyword, params }) => (keyword === 'type' ? params.type : []));
  // The error of an allowed value also reports its type, which is redundant here.
  return [...values, ...types.filter((type) => !values.some((value) => typeof value === type))];
}
