/** POST /v1/messages and its count of tokens: from a valid body to the plan of a chat. */
import { hasThoughts, withOpenEnd } from '../chat/prompt.js';
import { commonFields, countTranslated, readAsChat, type Translation } from '../chat/translated.js';
import type { ApiContext, ApiRequest } from '../context.js';
import type { GenerationRequest } from '../generation/read-request.js';
import { modelExit } from '../params/depth.js';
import { thoughtTokens } from '../params/thoughts.js';
import { rejectFields, rejectUnsupported, type NeutralValues } from '../params/unsupported.js';
import type { ChatBody } from '../schemas/chat.js';
import { type CountTokensAnswer, type CountTokensBody, MessagesBody } from '../schemas/messages.js';
import { chatMessagesOf } from './content.js';
import { toolFieldsOf, toolNames } from './tools.js';

/** Fields that would change an answer and that this server does not have. */
const UNSUPPORTED: NeutralValues = {
  container: [],
  mcp_servers: [],
  output_format: [],
  // A chat's names of fields that have other names here.
  stop: [],
  response_format: [],
  max_completion_tokens: [],
  n: [1],
};

/**
 * Anthropic's thinking as fields of a chat. Its models think only if a request asks for it, and its clients expect no
 * other block in front of the text.
 */
function thoughtsOf(
  { model }: ApiContext,
  { thinking }: Pick<MessagesBody, 'thinking'>,
): Pick<ChatBody, 'reasoning_effort' | 'thinking_token_budget'> {
  const { chat, tokenizer } = model;
  if (chat === null || !hasThoughts(chat)) return {};
  if (thinking === undefined || !['enabled', 'adaptive'].includes(thinking.type)) return { reasoning_effort: 'none' };
  const most = thinking.budget_tokens;
  const isBound = most !== undefined && chat.thoughts !== null && thoughtTokens(chat.thoughts, tokenizer) !== null;
  return { reasoning_effort: 'medium', ...(isBound && { thinking_token_budget: most }) };
}

type PromptBody = CountTokensBody & Pick<Partial<MessagesBody>, 'stop_sequences' | 'output_config'>;

/** @throws ApiError invalid_value or unsupported_parameter for blocks and tools that a chat does not have */
function translate(context: ApiContext, body: PromptBody): Translation {
  const { messages, names } = chatMessagesOf(body);
  const { stop_sequences: stop, output_config: output } = body;
  return {
    body: {
      ...commonFields(body),
      messages: withOpenEnd(messages),
      ...toolFieldsOf(body),
      ...thoughtsOf(context, body),
      ...(stop && { stop }),
      ...(output?.format && {
        response_format: { type: 'json_schema', json_schema: { schema: output.format.schema } },
      }),
    },
    names: [
      ...names,
      ...toolNames(body),
      ['stop', 'stop_sequences'],
      ['reasoning_effort', 'thinking'],
      ['thinking_token_budget', 'thinking.budget_tokens'],
      ['response_format', 'output_config.format'],
      ['response_format.json_schema', 'output_config.format'],
    ],
  };
}

/** @throws ApiError as a chat does. More tokens than the context has left are allowed: the answer ends there. */
export async function read(context: ApiContext, request: ApiRequest<MessagesBody>): Promise<GenerationRequest> {
  const { body } = request;
  rejectUnsupported(body, MessagesBody.properties);
  rejectFields(body, UNSUPPORTED);
  // Clients ask for 4,096 or 32,000 tokens without knowing the context. A default is cut to the context, as Anthropic
  // does with the limit.
  const limits = { ...context.limits, maxTokensDefault: body.max_tokens };
  return readAsChat({ ...context, limits }, request, translate(context, body));
}

/** Counts the prompt as /v1/messages makes it. @throws ApiError as countTranslated */
export async function countTokens(
  context: ApiContext,
  { body, signal }: Pick<ApiRequest<CountTokensBody>, 'body' | 'signal'>,
): Promise<CountTokensAnswer> {
  modelExit(context.model, body.model);
  return { input_tokens: await countTranslated(context, translate(context, body), signal) };
}
