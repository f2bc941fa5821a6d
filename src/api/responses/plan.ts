/** POST /v1/responses and its count of tokens: from a valid body to the plan of a chat. */
import { hasThoughts } from '../chat/prompt.js';
import { commonFields, countTranslated, readAsChat, type Translation } from '../chat/translated.js';
import type { ApiContext, ApiRequest } from '../context.js';
import { required } from '../errors.js';
import type { GenerationRequest } from '../generation/read-request.js';
import { modelExit } from '../params/depth.js';
import { rejectFields, rejectUnsupported, type NeutralValues } from '../params/unsupported.js';
import { type InputTokensAnswer, type InputTokensBody, ResponsesBody } from '../schemas/responses.js';
import type { ResponseFormat } from '../schemas/shared.js';
import { inputMessages } from './input.js';
import { responseTools } from './tools.js';

/** Fields of OpenAI's responses that would change an answer and that this server does not have. */
const UNSUPPORTED: NeutralValues = {
  previous_response_id: [],
  conversation: [],
  prompt: [],
  background: [],
  context_management: [],
  // A chat's names of fields that have other names here. To ignore them would change the answer.
  messages: [],
  max_tokens: [],
  max_completion_tokens: [],
  response_format: [],
  logprobs: [],
  n: [1],
};

/** @throws ApiError unsupported_parameter */
function checkSupported(body: ResponsesBody): void {
  rejectUnsupported(body, ResponsesBody.properties);
  rejectFields(body, UNSUPPORTED);
}

/** Whether the request asks a model without thoughts to think. */
function isThoughtless({ model: { chat } }: ApiContext, { reasoning }: ResponsesBody): boolean {
  const effort = reasoning?.effort ?? 'none';
  return effort !== 'none' && chat !== null && !hasThoughts(chat);
}

/** A sentence for each setting of the request that has no effect. */
function ignoredSettings(context: ApiContext, body: ResponsesBody): string[] {
  const { text: { verbosity = 'medium' } = {}, truncation } = body;
  return [
    isThoughtless(context, body) ? 'reasoning.effort is ignored: this model has no thoughts.' : [],
    verbosity === 'medium' ? [] : 'text.verbosity is ignored: this model has no such setting.',
    truncation === 'auto' ? 'truncation is ignored: input beyond the context is rejected.' : [],
  ].flat();
}

/** The request without the effort that has no effect. */
export function withoutIgnored(context: ApiContext, body: ResponsesBody): ResponsesBody {
  return isThoughtless(context, body) ? { ...body, reasoning: {} } : body;
}

const LOGPROBS = 'message.output_text.logprobs';

function chatFormat({ text }: ResponsesBody): ResponseFormat | undefined {
  const format = text?.format;
  if (format?.type !== 'json_schema') return format;
  const { type, ...json_schema } = format;
  return { type, json_schema };
}

function logprobFields({ include = [], top_logprobs: top = 0 }: ResponsesBody) {
  return top > 0 || include.includes(LOGPROBS) ? { logprobs: true, top_logprobs: top } : {};
}

/** @throws ApiError invalid_value or unsupported_parameter for items, parts and tools that a chat does not have */
function translate(body: ResponsesBody): Translation {
  const { messages, names } = inputMessages(body);
  const tools = responseTools(body);
  const format = chatFormat(body);
  const effort = body.reasoning?.effort;
  return {
    body: {
      ...commonFields(body),
      messages,
      ...tools.fields,
      ...(format && { response_format: format }),
      ...(body.max_output_tokens !== undefined && { max_tokens: body.max_output_tokens }),
      ...(effort !== undefined && { reasoning_effort: effort }),
      ...logprobFields(body),
    },
    names: [
      ...names,
      ...tools.names,
      ['max_tokens', 'max_output_tokens'],
      ['response_format', 'text.format'],
      ['response_format.json_schema', 'text.format'],
      ['logprobs', 'include'],
      ['reasoning_effort', 'reasoning.effort'],
    ],
  };
}

export async function read(context: ApiContext, request: ApiRequest<ResponsesBody>): Promise<GenerationRequest> {
  const { body } = request;
  checkSupported(body);
  const read = await readAsChat(context, request, translate(withoutIgnored(context, body)));
  for (const each of ignoredSettings(context, body)) request.warn(each);
  return read;
}

/** Counts the prompt as /v1/responses makes it. @throws ApiError as countTranslated */
export async function inputTokens(
  context: ApiContext,
  { body, signal }: Pick<ApiRequest<InputTokensBody>, 'body' | 'signal'>,
): Promise<InputTokensAnswer> {
  const { input, ...others } = body;
  if (input === undefined && body.instructions === undefined) throw required('input');
  const asked = { ...others, input: input ?? [] };
  checkSupported(asked);
  modelExit(context.model, body.model);
  const tokens = await countTranslated(context, translate(withoutIgnored(context, asked)), signal);
  return { object: 'response.input_tokens', input_tokens: tokens };
}
