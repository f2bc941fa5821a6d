/** `response_format` as a grammar: OpenAI's three kinds and llama.cpp's schema. Must not know: how grammars work. */
import type { Grammar } from '../../engine/protocol.js';
import { schemaText } from './schema-limits.js';
import type { ResponseFormat } from '../schemas/shared.js';

/** The grammar of an answer, and the parameter that states it. */
export interface PlannedGrammar {
  readonly grammar: Grammar;
  /** The parameter at fault if the grammar cannot be enforced. @param part index of a function, if it is known */
  placeOf(part: number | null): string;
}

const PARAM = 'response_format';

/**
 * @returns null for any text
 * @throws ApiError invalid_value for a schema that is too large
 */
export function formatGrammar(format: ResponseFormat | undefined): PlannedGrammar | null {
  if (format === undefined || format.type === 'text') return null;
  const schema =
    format.type === 'json_schema'
      ? schemaText(format.json_schema.schema, `${PARAM}.json_schema.schema`, PARAM)
      : schemaText(format.schema ?? { type: 'object' }, `${PARAM}.schema`, PARAM);
  return { grammar: { kind: 'json', schema }, placeOf: () => PARAM };
}
