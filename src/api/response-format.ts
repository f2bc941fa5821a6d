/**
 * `response_format` as the schema that an answer must keep to.
 *
 * Knows: OpenAI's three kinds, and how large a schema may be. Must not know: grammars; what a schema means is checked by
 * the engine.
 */
import { ApiError, shown } from '../errors.js';
import type { ResponseFormat } from './schemas/shared.js';

/** Longer schemas take too long to compile, UTF-16 units. */
const MAX_LENGTH = 32_768;
/** Objects and arrays within each other; deeper ones would overflow the stack of whatever reads them. */
const MAX_DEPTH = 64;
/** Counted repetitions are unrolled where a schema is compiled: 100,000 of them took seconds and all memory. */
const MAX_COUNT = 4096;
const COUNTS = new Set(['minItems', 'maxItems', 'minProperties', 'maxProperties', 'minLength', 'maxLength']);

const PARAM = 'response_format';

function refuse(rule: string): ApiError {
  return new ApiError('invalid_value', `response_format.json_schema.schema ${rule}.`, PARAM);
}

/** Without recursion: the depth is what is being checked. */
function checkSize(schema: unknown): void {
  const left: { readonly value: unknown; readonly depth: number }[] = [{ value: schema, depth: 1 }];
  for (let each = left.pop(); each !== undefined; each = left.pop()) {
    const { value, depth } = each;
    if (typeof value !== 'object' || value === null) continue;
    if (depth > MAX_DEPTH) throw refuse(`must be nested at most ${MAX_DEPTH} deep`);
    for (const [key, child] of Object.entries(value) as [string, unknown][]) {
      if (COUNTS.has(key) && typeof child === 'number' && child > MAX_COUNT) {
        throw refuse(`must have ${key} of at most ${MAX_COUNT}, got ${shown(child)}`);
      }
      left.push({ value: child, depth: depth + 1 });
    }
  }
}

/**
 * @returns a JSON schema as text, or null for any text
 * @throws ApiError invalid_value for a schema that is too large
 */
export function grammarOf(format: ResponseFormat | undefined): string | null {
  if (format === undefined || format.type === 'text') return null;
  if (format.type === 'json_object') return '{"type":"object"}';
  const { schema } = format.json_schema;
  checkSize(schema);
  const text = JSON.stringify(schema);
  if (text.length > MAX_LENGTH) throw refuse(`must have at most ${MAX_LENGTH} characters, got ${text.length}`);
  return text;
}
