/** POST /v1/responses: from a valid body to the plan of a chat. */
import { planAsChat, type Translation } from '../chat/translated.js';
import type { ApiContext, ApiRequest } from '../context.js';
import type { GenerationPlan } from '../generation/request.js';
import { commonFields } from '../params/common-fields.js';
import type { ResponsesBody } from '../schemas/responses.js';
import type { ResponseFormat } from '../schemas/shared.js';
import { ignoredSettings, withoutIgnored } from './ignored.js';
import { inputMessages } from './input.js';
import { responseTools } from './tools.js';
import { rejectUnsupportedOfResponses } from './unsupported.js';

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

export async function plan(context: ApiContext, request: ApiRequest<ResponsesBody>): Promise<GenerationPlan> {
  const { body } = request;
  rejectUnsupportedOfResponses(body);
  const planned = await planAsChat(context, request, translate(withoutIgnored(context, body)));
  for (const each of ignoredSettings(context, body)) request.warn(each);
  return planned;
}
