/**
 * Limits of a client's values and schemas: nesting, number, size, vocabulary.
 *
 * Fields that would change an answer and that this server does not support. It rejects them instead of ignoring them.
 * The log names all other unknown fields.
 *
 * Must not know: the meaning of a schema, which the engine checks.
 */
import { ApiError, invalid } from '../errors.js';
import { quoted } from '../../../util/quoted.js';
import { isDeepStrictEqual } from 'node:util';

/** @throws ApiError invalid_value for an id outside of the vocabulary */
export function checkIds(param: string, ids: readonly number[], vocabulary: number): void {
  const wrong = ids.find((id) => id >= vocabulary);
  if (wrong !== undefined) throw invalid(param, `must hold token ids from 0 to ${vocabulary - 1}, got ${wrong}`);
}

/**
 * Most levels of objects and arrays within each other. JSON.stringify and templates read values by recursion, and a
 * body is large enough for depths that overflow the stack. Schemas, which are parts of bodies, have a lower limit.
 */
export const MAX_NESTING = 100;

/** Half a character, which no text may hold. */
export const LONE_SURROGATE = /\p{Surrogate}/u;

function isNested(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Whether a value holds more than MAX_NESTING levels of objects and arrays. The recursion stops at that depth. */
export function isTooDeep(value: unknown, most = MAX_NESTING): boolean {
  if (!isNested(value)) return false;
  if (most === 0) return true;
  const children: unknown[] = Array.isArray(value) ? value : Object.values(value);
  return children.some((child) => isTooDeep(child, most - 1));
}

/** Whether a value holds more than `most` values, itself included. The walk stops there. */
export function hasMoreValues(value: unknown, most: number): boolean {
  const left = [value];
  let seen = 1;
  while (left.length > 0 && seen <= most) {
    const each = left.pop();
    if (!isNested(each)) continue;
    const children: unknown[] = Array.isArray(each) ? each : Object.values(each);
    seen += children.length;
    if (seen <= most) for (const child of children) left.push(child);
  }
  return seen > most;
}

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
  if (isTooDeep(schema, MAX_DEPTH)) throw reject(`must be nested at most ${MAX_DEPTH} deep`);
  const text = JSON.stringify(schema, (key, value: unknown) => {
    if (!COUNTS.has(key) || typeof value !== 'number' || value <= MAX_COUNT) return value;
    throw reject(`must have ${key} of at most ${MAX_COUNT}, got ${quoted(value)}`);
  });
  if (text.length > MAX_SCHEMA_UNITS)
    throw reject(`must have at most ${MAX_SCHEMA_UNITS} characters, got ${text.length}`);
  return text;
}

/** Keywords whose value is data, not a schema. */
const DATA = new Set(['enum', 'const', 'default', 'examples']);
const MOST = new Set(['maxLength', 'maxItems', 'maxProperties']);

function loose(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(loose);
  if (!isNested(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, count]) => !(MOST.has(key) && typeof count === 'number' && count > MAX_COUNT))
      .map(([key, child]): [string, unknown] => [key, DATA.has(key) ? child : loose(child)]),
  );
}

/**
 * The schema of a tool. A grammar rejects large counts, and agents state such counts as hints: a script of at most
 * 524,288 characters.
 * @returns the schema without upper counts that no grammar can enforce; the schema of a strict tool is unchanged
 */
export function toolSchema(schema: Record<string, unknown>, isStrict: boolean): Record<string, unknown> {
  return isStrict ? schema : (loose(schema) as Record<string, unknown>);
}

/** Each field with its neutral values, besides the values that are neutral in every field (`isNeutral`). */
export type NeutralValues = Readonly<Record<string, readonly unknown[]>>;

/** Fields whose only neutral values are those of `isNeutral`: OpenAI's, and the most used of vLLM and llama.cpp. */
const REJECTED = `
  tools functions parallel_tool_calls suffix echo prediction web_search_options audio
  structured_outputs continue_final_message chat_template guided_json guided_regex guided_choice guided_grammar
  use_beam_search prompt_logprobs allowed_token_ids bad_words truncate_prompt_tokens
  grammar json_schema samplers dry_sequence_breakers
`;

const UNSUPPORTED: NeutralValues = {
  ...Object.fromEntries(
    REJECTED.trim()
      .split(/\s+/)
      .map((field) => [field, []]),
  ),
  tool_choice: ['none', 'auto'],
  function_call: ['none', 'auto'],
  best_of: [1],
  modalities: [['text']],
  reasoning_effort: ['none'],
  verbosity: ['medium'],
  add_generation_prompt: [true],
  chat_template_kwargs: [{}],
  thinking_token_budget: [0],
  n_predict: [-1],
  n_probs: [0],
  repeat_penalty: [1],
  typical_p: [1],
  mirostat: [0],
  xtc_probability: [0],
};

/** Whether a value asks for nothing. `false` is neutral unless `true` is the default. */
function isNeutral(value: unknown, neutral: readonly unknown[]): boolean {
  if (value === undefined || value === null || value === '' || isDeepStrictEqual(value, [])) return true;
  return (value === false && !neutral.includes(true)) || neutral.some((one) => isDeepStrictEqual(one, value));
}

/**
 * @param served the fields of the endpoint's schema
 * @param more fields that the endpoint rejects beside those of all endpoints
 * @param place the path of the object, with a dot at its end
 * @throws ApiError unsupported_parameter
 */
export function rejectUnsupported(body: object, served: object, more: NeutralValues = {}, place = ''): void {
  for (const [field, neutral] of Object.entries({ ...UNSUPPORTED, ...more })) {
    if (field in served || isNeutral((body as Record<string, unknown>)[field], neutral)) continue;
    const isForm = field.startsWith('guided_') && 'structured_outputs' in served;
    const instead = isForm ? `: use ${field.replace('guided_', 'structured_outputs.')}` : '';
    throw new ApiError(
      'unsupported_parameter',
      `${place}${field} is not supported by this server${instead}.`,
      place + field,
    );
  }
}
