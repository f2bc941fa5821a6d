/** The body of /v1/responses and of its count of tokens as the body of a chat. */
import { hasThoughts } from '../chat-completions/chat-prompt.js';
import { commonFields, type Translation } from '../chat-completions/translated-chat.js';
import type { ApiContext } from '../../context.js';
import { type NeutralValues, rejectUnsupported } from '../../params/unsupported.js';
import { ResponsesBody } from './responses-body.js';
import type { ResponseFormat } from '../../schemas/shared.js';
import { inputMessages } from './input-items.js';
import { responseTools } from './response-tools.js';

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
export function checkSupported(body: ResponsesBody): void {
  rejectUnsupported(body, ResponsesBody.properties, UNSUPPORTED);
}

/** Whether the request asks a model without thoughts to think. */
export function isThoughtless({ model: { chat } }: ApiContext, { reasoning }: ResponsesBody): boolean {
  const effort = reasoning?.effort ?? 'none';
  return effort !== 'none' && chat !== null && !hasThoughts(chat);
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
export function translate(body: ResponsesBody): Translation {
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
