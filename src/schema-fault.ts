/**
 * What breaks the schema of a file, in words for whoever wrote the file.
 *
 * Knows: TypeBox's errors. Must not know: which file. Names the place and the rule, never the value: it may be a key.
 */
import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';

/** The first fault; null where there is none. */
export function faultOf(schema: TSchema, value: unknown): string | null {
  const errors = Value.Errors(schema, value);
  const [first] = errors;
  if (first === undefined) return null;
  const place = first.instancePath === '' ? '/' : first.instancePath;
  // What a closed object does not have is held against the schema `false`.
  if (first.keyword === 'boolean') return `${place} is no field of this file`;
  if (first.keyword !== 'const') return `${place} ${first.message}`;
  const allowed = errors.flatMap((error) =>
    error.keyword === 'const' && error.instancePath === first.instancePath ? [String(error.params.allowedValue)] : [],
  );
  return `${place} must be ${allowed.join(' or ')}`;
}
