/**
 * Size limits of a client's JSON schema.
 *
 * Must not know: the meaning of a schema, which the engine checks.
 */
import { ApiError } from '../errors.js';
import { quoted } from '../../util/quoted.js';

/** Most UTF-16 units: longer schemas and grammars take too long to compile. */
export const MAX_SCHEMA_UNITS = 32_768;
/** Most objects and arrays within each other: deeper schemas would overflow the stack of a reader. */
const MAX_DEPTH = 64;
/** Largest counted repetition. Compilation unrolls repetitions: 100,000 of them took seconds and all memory. */
const MAX_COUNT = 4096;
const COUNTS = new Set(['minItems', 'maxItems', 'minProperties', 'maxProperties', 'minLength', 'maxLength']);

/**
 * @param place of the schema, as the client wrote it
 * @returns the schema as text
 * @throws ApiError invalid_value for a schema that is too large, with `param`
 */
export function schemaText(schema: unknown, place: string, param: string): string {
  const reject = (rule: string): ApiError => new ApiError('invalid_value', `${place} ${rule}.`, param);
  // The walk has no recursion, because it checks the depth.
  const left: { readonly value: unknown; readonly depth: number }[] = [{ value: schema, depth: 1 }];
  for (let each = left.pop(); each !== undefined; each = left.pop()) {
    const { value, depth } = each;
    if (typeof value !== 'object' || value === null) continue;
    if (depth > MAX_DEPTH) throw reject(`must be nested at most ${MAX_DEPTH} deep`);
    for (const [key, child] of Object.entries(value) as [string, unknown][]) {
      if (COUNTS.has(key) && typeof child === 'number' && child > MAX_COUNT) {
        throw reject(`must have ${key} of at most ${MAX_COUNT}, got ${quoted(child)}`);
      }
      left.push({ value: child, depth: depth + 1 });
    }
  }
  const text = JSON.stringify(schema);
  if (text.length > MAX_SCHEMA_UNITS)
    throw reject(`must have at most ${MAX_SCHEMA_UNITS} characters, got ${text.length}`);
  return text;
}
