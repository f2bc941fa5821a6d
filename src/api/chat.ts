/** POST /v1/chat/completions: from a valid body to an answer. Knows: the endpoint's shapes. */
import { ApiError } from '../errors.js';
import { ChatTemplateError, type ChatMessage } from '../model/chat-template.js';
import type { Answer } from './answer.js';
import type { ChoiceToken } from './choice.js';
import type { ApiContext, ApiRequest } from './context.js';
import { chatLogprobs } from './logprobs.js';
import { encodePrompt, planGeneration, type GenerationPlan, type Prompt } from './request.js';
import { ChatBody, type ChatMessageBody } from './schemas/chat.js';
import type { ChunkShapes, Endpoint } from './serve.js';
import { refuseUnsupported, refuseUnsupportedOfMessages } from './unsupported.js';

function message({ role, content }: ChatMessageBody): ChatMessage {
  return {
    // Models are tuned with the older name.
    role: role === 'developer' ? 'system' : role,
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
  };
}

/** The messages as the prompt that the model was tuned with. */
export async function chatPrompt(context: ApiContext, messages: readonly ChatMessageBody[]): Promise<Prompt> {
  refuseUnsupportedOfMessages(messages);
  const template = context.model.chat;
  if (template === null) {
    throw new ApiError('unsupported_parameter', 'This model has no chat template; use /v1/completions.', 'messages');
  }
  try {
    return await encodePrompt(context, template.render(messages.map(message), true), false, 'messages');
  } catch (error) {
    if (!(error instanceof ChatTemplateError)) throw error;
    throw new ApiError('invalid_value', `The chat template refuses these messages: ${error.message}`, 'messages');
  }
}

async function plan(context: ApiContext, request: ApiRequest<ChatBody>): Promise<GenerationPlan> {
  const { body } = request;
  refuseUnsupported(body, ChatBody.properties);
  if (body.top_logprobs !== undefined && body.logprobs !== true) {
    throw new ApiError('invalid_value', 'top_logprobs is only allowed with logprobs: true.', 'top_logprobs');
  }
  return planGeneration(context, request, {
    prompts: [await chatPrompt(context, body.messages)],
    promptParam: 'messages',
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
    defaultTokens: context.limits.maxTokensDefault,
    logprobs: body.logprobs === true ? (body.top_logprobs ?? 0) : null,
    echo: false,
  });
}

function logprobs(context: ApiContext, answer: Answer, tokens: readonly ChoiceToken[]) {
  if (answer.plan.logprobs === null) return null;
  return { content: chatLogprobs(context.model.tokenizer, tokens), refusal: null };
}

function head(answer: Answer, object: 'chat.completion' | 'chat.completion.chunk') {
  return { id: `chatcmpl-${answer.id}`, object, created: answer.created, model: answer.plan.modelName };
}

function chunks(context: ApiContext): ChunkShapes {
  const chunk = (answer: Answer) => head(answer, 'chat.completion.chunk');
  return {
    // The role comes with the first token, never before it: an early chunk would fake the time to first token.
    delta: (answer, index, text, tokens, first) => ({
      ...chunk(answer),
      choices: [
        {
          index,
          delta: first ? { role: 'assistant', content: text } : { content: text },
          logprobs: logprobs(context, answer, tokens),
          finish_reason: null,
        },
      ],
    }),
    finish: (answer, index, reason) => ({
      ...chunk(answer),
      choices: [{ index, delta: {}, logprobs: null, finish_reason: reason }],
    }),
    empty: (answer) => ({ ...chunk(answer), choices: [] }),
  };
}

export const chat: Endpoint<ChatBody> = {
  plan,
  chunks,
  whole: (context, answer, choices) => ({
    ...head(answer, 'chat.completion'),
    choices: choices.map(({ text, tokens, finishReason }, index) => ({
      index,
      message: { role: 'assistant', content: text, refusal: null },
      logprobs: logprobs(context, answer, tokens),
      finish_reason: finishReason,
    })),
  }),
};
