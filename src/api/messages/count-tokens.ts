/** POST /v1/messages/count_tokens. */
import { chatPrompt } from '../chat/chat.js';
import { countedFrame } from '../chat/counted-frame.js';
import { withOpenEnd } from '../chat/prompt-ending.js';
import { chatTools } from '../chat/tools.js';
import { withNames } from '../chat/translated.js';
import type { ApiContext, ApiRequest } from '../context.js';
import { modelExit } from '../params/depth.js';
import type { CountTokensAnswer, CountTokensBody } from '../schemas/messages.js';
import { chatMessagesOf } from './content.js';
import { thinkingOf } from './plan.js';
import { toolNames, toolsOf } from './tools.js';

/**
 * Counts the prompt as /v1/messages makes it, the start of the answer included.
 * @throws ApiError as /v1/messages, except that the count may exceed the context
 */
export async function countTokens(
  context: ApiContext,
  { body, signal }: Pick<ApiRequest<CountTokensBody>, 'body' | 'signal'>,
): Promise<CountTokensAnswer> {
  modelExit(context.model, body.model);
  const { messages: translated, names } = chatMessagesOf(body);
  const messages = withOpenEnd(translated);
  const tools = body.tool_choice?.type === 'none' ? [] : toolsOf(body);
  return withNames([...names, ...toolNames(body)], async () => {
    const frame = countedFrame(context, messages, thinkingOf(context, body), signal);
    const { ids } = await chatPrompt(context, messages, chatTools(tools), frame);
    return { input_tokens: ids.length };
  });
}
