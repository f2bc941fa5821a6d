/** `response_format` as the schema that an answer must keep to. Knows: OpenAI's three kinds. Must not know: grammars. */
import { ApiError } from '../errors.js';
import type { ResponseFormat } from './schemas/shared.js';

/** Longer schemas take the engine too long to compile, UTF-16 units. */
const MAX_SCHEMA = 32_768;

/**
 * @returns a JSON schema as text, or null for any text
 * @throws ApiError invalid_value for a schema that is too long; what a schema means is checked by the engine
 */
export function grammarOf(format: ResponseFormat | undefined): string | null {
  if (format === undefined || format.type === 'text') return null;
  if (format.type === 'json_object') return '{"type":"object"}';
  const schema = JSON.stringify(format.json_schema.schema);
  if (schema.length <= MAX_SCHEMA) return schema;
  const rule = `response_format.json_schema.schema must have at most ${MAX_SCHEMA} characters, got ${schema.length}.`;
  throw new ApiError('invalid_value', rule, 'response_format');
}
