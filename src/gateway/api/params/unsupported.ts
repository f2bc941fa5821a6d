/**
 * Fields that would change an answer and that this server does not support. It rejects them instead of ignoring them.
 * The log names all other unknown fields.
 *
 * Must not know: the supported fields (an endpoint passes its schema in).
 */
import { isDeepStrictEqual } from 'node:util';
import { ApiError } from '../errors.js';

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
