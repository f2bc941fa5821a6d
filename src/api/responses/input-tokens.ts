/** POST /v1/responses/input_tokens. */
import { chatPrompt } from '../chat/chat.js';
import { countedFrame } from '../chat/counted-frame.js';
import { planTools } from '../chat/tools.js';
import { withNames } from '../chat/translated.js';
import type { ApiContext, ApiRequest } from '../context.js';
import { modelExit } from '../params/depth.js';
import { required } from '../params/refusals.js';
import type { InputTokensAnswer, InputTokensBody } from '../schemas/responses.js';
import { withoutIgnored } from './ignored.js';
import { translate } from './plan.js';
import { rejectUnsupportedOfResponses } from './unsupported.js';

/**
 * Counts the prompt as /v1/responses makes it, the start of the answer included.
 * @throws ApiError as /v1/responses, except that the count may exceed the context
 */
export async function inputTokens(
  context: ApiContext,
  { body, signal }: Pick<ApiRequest<InputTokensBody>, 'body' | 'signal'>,
): Promise<InputTokensAnswer> {
  const { input, ...others } = body;
  if (input === undefined && body.instructions === undefined) throw required('input');
  const asked = { ...others, input: input ?? [] };
  rejectUnsupportedOfResponses(asked);
  modelExit(context.model, body.model);
  const { body: chat, names } = translate(withoutIgnored(context, asked));
  return withNames(names, async () => {
    const { tools } = planTools(chat, null);
    const { ids } = await chatPrompt(context, chat.messages, tools, countedFrame(context, chat.messages, chat, signal));
    return { object: 'response.input_tokens', input_tokens: ids.length };
  });
}
