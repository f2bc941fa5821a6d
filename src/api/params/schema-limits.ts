/**
 * How large a caller's JSON schema may be.
 *
 * Knows: sizes. Must not know: what a schema means; that is checked by the engine.
 */
import { ApiError } from '../errors.js';
import { quoted } from '../../util/quoted.js';

/** Longer schemas take too long to compile, UTF-16 units. */
const MAX_LENGTH = 32_768;
/** Objects and arrays within each other; deeper ones would overflow the stack of whatever reads them. */
const MAX_DEPTH = 64;
/** Counted repetitions are unrolled where a schema is compiled: 100,000 of them took seconds and all memory. */
const MAX_COUNT = 4096;
const COUNTS = new Set(['minItems', 'maxItems', 'minProperties', 'maxProperties', 'minLength', 'maxLength']);

/**
 * @param place of the schema, as the caller wrote it
 * @returns the schema as text
 * @throws ApiError invalid_value for one that is too large, with `param`
 */
export function schemaText(schema: unknown, place: string, param: string): string {
  const refuse = (rule: string): ApiError => new ApiError('invalid_value', `${place} ${rule}.`, param);
  // Without recursion: the depth is what is being checked.
  const left: { readonly value: unknown; readonly depth: number }[] = [{ value: schema, depth: 1 }];
  for (let each = left.pop(); each !== undefined; each = left.pop()) {
    const { value, depth } = each;
    if (typeof value !== 'object' || value === null) continue;
    if (depth > MAX_DEPTH) throw refuse(`must be nested at most ${MAX_DEPTH} deep`);
    for (const [key, child] of Object.entries(value) as [string, unknown][]) {
      if (COUNTS.has(key) && typeof child === 'number' && child > MAX_COUNT) {
        throw refuse(`must have ${key} of at most ${MAX_COUNT}, got ${quoted(child)}`);
      }
      left.push({ value: child, depth: depth + 1 });
    }
  }
  const text = JSON.stringify(schema);
  if (text.length > MAX_LENGTH) throw refuse(`must have at most ${MAX_LENGTH} characters, got ${text.length}`);
  return text;
}
