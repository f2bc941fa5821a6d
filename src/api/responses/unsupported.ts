/** Fields of OpenAI's responses that would change an answer and that this server does not have. */
import { rejectFields, rejectUnsupported, type NeutralValues } from '../params/unsupported.js';
import { ResponsesBody } from '../schemas/responses.js';

const OF_BODY: NeutralValues = {
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
export function rejectUnsupportedOfResponses(body: ResponsesBody): void {
  rejectUnsupported(body, ResponsesBody.properties);
  rejectFields(body, OF_BODY);
}
