/**
 * Fields that would change an answer and that this server does not support. It rejects them instead of ignoring them.
 *
 * The table has OpenAI's names and those of other servers. Must not know: the supported fields (an endpoint passes its
 * schema in).
 */
import { isDeepStrictEqual } from 'node:util';
import { ApiError } from '../errors.js';

/** Each field with its neutral values, besides the values that are neutral in every field (`isNeutral`). */
export type NeutralValues = Readonly<Record<string, readonly unknown[]>>;

/** Fields whose only neutral values are those of `isNeutral`: OpenAI's, vLLM's and SGLang's, llama.cpp's. */
const REJECTED = `
  tools functions parallel_tool_calls suffix audio prediction web_search_options echo structured_outputs guided_json
  guided_regex guided_choice guided_grammar regex ebnf use_beam_search prompt_logprobs prompt_embeds
  truncate_prompt_tokens allowed_token_ids bad_words logits_processors include_stop_str_in_output
  continue_final_message chat_template documents return_token_strs return_tokens_as_token_ids no_stop_trim stop_regex
  custom_logit_processor input_ids logprob_token_ids lora_path max_new_tokens return_hidden_states return_token_ids
  sampling_seed truncation_side grammar json_schema dry_sequence_breakers lora post_sampling_probs samplers
`
  .trim()
  .split(/\s+/);

const UNSUPPORTED: NeutralValues = {
  ...Object.fromEntries(REJECTED.map((field) => [field, []])),
  tool_choice: ['none', 'auto'],
  function_call: ['none', 'auto'],
  best_of: [1],
  modalities: [['text']],
  reasoning_effort: ['none'],
  verbosity: ['medium'],
  length_penalty: [1],
  skip_special_tokens: [true],
  add_generation_prompt: [true],
  chat_template_kwargs: [{}],
  mm_processor_kwargs: [{}],
  detokenize: [true],
  kv_transfer_params: [{}],
  min_characters: [0],
  min_new_tokens: [0],
  no_repeat_ngram_size: [0],
  thinking_token_budget: [0],
  include_reasoning: [true],
  separate_reasoning: [true],
  n_predict: [-1],
  reasoning_format: ['auto', 'deepseek'],
  reasoning_budget: [-1],
  thinking_budget_tokens: [-1],
  repeat_penalty: [1],
  dry_penalty_last_n: [-1],
  typical_p: [1],
  mirostat: [0],
  xtc_probability: [0],
  // llama.cpp's default. XTC is off as long as its probability is 0.
  xtc_threshold: [0, 0.1],
  adaptive_target: [-1],
  n_probs: [0],
  t_max_predict_ms: [-1, 0],
  tfs_z: [1],
  typical: [1],
  top_n_sigma: [-1, 0],
  dynatemp_range: [0],
};

/** The fields of this server for the form of an answer, by their names at vLLM until 0.11, SGLang and llama.cpp. */
const INSTEAD: Readonly<Record<string, string>> = {
  guided_json: 'structured_outputs.json',
  json_schema: 'structured_outputs.json',
  guided_regex: 'structured_outputs.regex',
  regex: 'structured_outputs.regex',
  guided_choice: 'structured_outputs.choice',
  guided_grammar: 'structured_outputs.grammar',
  ebnf: 'structured_outputs.grammar',
  grammar: 'structured_outputs.grammar',
};

/** The same for `structured_outputs`. */
const UNSUPPORTED_OF_OUTPUTS: NeutralValues = {
  structural_tag: [],
  whitespace_pattern: [],
  disable_additional_properties: [],
};

/** The same for a message of a chat. */
const UNSUPPORTED_OF_MESSAGES: NeutralValues = {
  function_call: [],
  audio: [],
};

/** Whether a value asks for nothing. `false` is neutral unless `true` is the default. */
function isNeutral(value: unknown, neutral: readonly unknown[]): boolean {
  if (value === undefined || value === null || value === '' || isDeepStrictEqual(value, [])) return true;
  return (value === false && !neutral.includes(true)) || neutral.some((one) => isDeepStrictEqual(one, value));
}

/**
 * @param place the path of the object, with a dot at its end
 * @param served fields that are not rejected
 * @throws ApiError unsupported_parameter
 */
export function rejectFields(object: object, fields: NeutralValues, place = '', served: object = {}): void {
  for (const [field, neutral] of Object.entries(fields)) {
    if (field in served) continue;
    const value = (object as Record<string, unknown>)[field];
    if (isNeutral(value, neutral)) continue;
    const instead = place === '' && 'structured_outputs' in served ? INSTEAD[field] : undefined;
    const hint = instead === undefined ? '' : `: use ${instead}`;
    throw new ApiError(
      'unsupported_parameter',
      `${place}${field} is not supported by this server${hint}.`,
      place + field,
    );
  }
}

/**
 * @param served the fields of the endpoint's schema
 * @throws ApiError unsupported_parameter
 */
export function rejectUnsupported(body: object, served: object): void {
  rejectFields(body, UNSUPPORTED, '', served);
  const { structured_outputs: outputs } = body as { readonly structured_outputs?: unknown };
  if (typeof outputs === 'object' && outputs !== null)
    rejectFields(outputs, UNSUPPORTED_OF_OUTPUTS, 'structured_outputs.');
}

/** @throws ApiError unsupported_parameter, with the message's place in the param */
export function rejectUnsupportedOfMessages(messages: readonly object[]): void {
  messages.forEach((message, index) => {
    rejectFields(message, UNSUPPORTED_OF_MESSAGES, `messages[${index}].`);
  });
}
