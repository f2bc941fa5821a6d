/** The body of /v1/messages and of its count of tokens as the body of a chat. */
import { hasThoughts, withOpenEnd } from '../chat-completions/chat-prompt.js';
import { commonFields, type Translation } from '../chat-completions/translated-chat.js';
import type { ApiContext } from '../../context.js';
import { thoughtTokens } from '../../params/thoughts.js';
import type { ChatBody } from '../chat-completions/chat-body.js';
import type { CountTokensBody, MessagesBody } from './messages-body.js';
import { chatMessagesOf } from './content-blocks.js';
import { toolFieldsOf, toolNames } from './message-tools.js';

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
export function translate(context: ApiContext, body: PromptBody): Translation {
  return translateWith(thoughtsOf(context, body), body);
}

/**
 * @param thoughts the fields of a chat that ask for thoughts
 * @throws ApiError as `translate`
 */
export function translateWith(thoughts: ReturnType<typeof thoughtsOf>, body: PromptBody): Translation {
  const { messages, names } = chatMessagesOf(body);
  const { stop_sequences: stop, output_config: output } = body;
  return {
    body: {
      ...commonFields(body),
      messages: withOpenEnd(messages),
      ...toolFieldsOf(body),
      ...thoughts,
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
