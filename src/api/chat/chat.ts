/** POST /v1/chat/completions: from a valid body to an answer. */
import { ApiError } from '../errors.js';
import { ChatTemplateError, type TemplateVariables } from '../../text/chat-template.js';
import type { ChatTool } from '../../text/tool-form.js';
import type { Answer } from '../generation/answer.js';
import type { CallPart } from '../generation/call-reader.js';
import type { ChoiceToken, Delta } from '../generation/choice.js';
import { readyEngine, type ApiContext, type ApiRequest } from '../context.js';
import { chatLogprobs } from '../generation/logprobs.js';
import { chatMessages, textOf } from './messages.js';
import { hasMoreValues } from '../params/nesting.js';
import {
  budgetOf,
  encodePrompt,
  encodePrediction,
  planGeneration,
  tooLong,
  type Encoding,
  type GenerationPlan,
  type Prompt,
} from '../generation/request.js';
import { waitLimitOf } from '../generation/wait-limit.js';
import { answerGrammar } from '../params/structured-outputs.js';
import { checkBounds } from '../params/thoughts.js';
import { ChatBody, type ChatMessageBody } from '../schemas/chat.js';
import type { ToolCall } from '../schemas/tools.js';
import { chunkFormatter, type Collected } from '../generation/chunks.js';
import type { Endpoint } from '../generation/serve.js';
import { promptEnding, type PromptEnding } from './prompt-ending.js';
import { templateVariables } from './template-variables.js';
import { answerThoughts, thoughtTokens, withoutThoughts } from './thoughts.js';
import { planTools } from './tools.js';
import { rejectUnsupported, rejectUnsupportedOfMessages } from '../params/unsupported.js';

/** The parts around the messages: the end of the prompt, and the tokenizer's own begin and end tokens. */
export interface PromptFrame extends Omit<Encoding, 'param'>, PromptEnding {
  /** Further variables of the chat template; absent: none. */
  readonly variables?: TemplateVariables;
  /** Closes the thoughts that the template opens. Absent: false. */
  readonly closesThoughts?: boolean;
}

/**
 * Renders the messages as the prompt form that the model was tuned with.
 * @param tools functions that the model may call
 */
export async function chatPrompt(
  context: ApiContext,
  messages: readonly ChatMessageBody[],
  tools: readonly ChatTool[],
  { addGenerationPrompt, continuesLast = false, variables = {}, closesThoughts = false, ...encoding }: PromptFrame,
): Promise<Prompt> {
  rejectUnsupportedOfMessages(messages);
  const template = context.model.chat;
  if (template === null) {
    throw new ApiError('unsupported_parameter', 'This model has no chat template; use /v1/completions.', 'messages');
  }
  const { maxLength } = readyEngine(context);
  // Rendering blocks the event loop, so a prompt that cannot fit is rejected first.
  const content = messages.map((each) => (each.reasoning_content ?? '') + textOf(each)).join('');
  if (messages.length > maxLength || context.model.tokenizer.mustExceed(content, maxLength)) {
    throw tooLong(maxLength, `over ${maxLength}`, null, 'messages');
  }
  const plain = chatMessages(messages);
  // Templates write structured values one by one, which is slow. Nearly every value takes at least one token.
  const structured = [tools, plain.map(({ tool_calls: calls }) => calls ?? []), variables].flat(2);
  if (hasMoreValues(structured, maxLength)) throw tooLong(maxLength, `over ${maxLength}`, null, 'messages');
  try {
    const text = continuesLast
      ? template.renderOpen(plain, tools, variables)
      : template.render(plain, addGenerationPrompt, tools, variables);
    const prompt = closesThoughts && template.thoughts !== null ? withoutThoughts(template.thoughts, text) : text;
    return await encodePrompt(context, prompt, { ...encoding, param: 'messages' });
  } catch (error) {
    if (!(error instanceof ChatTemplateError)) throw error;
    throw new ApiError('invalid_value', `The chat template rejects these messages: ${error.message}`, 'messages');
  }
}

async function plan(context: ApiContext, request: ApiRequest<ChatBody>): Promise<GenerationPlan> {
  const { body } = request;
  rejectUnsupported(body, ChatBody.properties);
  if ((body.top_logprobs ?? 0) > 0 && body.logprobs !== true) {
    throw new ApiError('invalid_value', 'top_logprobs is only allowed with logprobs: true.', 'top_logprobs');
  }
  const { tools, grammar: asked } = planTools(body, answerGrammar(body));
  const tags = context.model.chat?.thoughts ?? null;
  const tokens = tags === null ? null : thoughtTokens(tags, context.model.tokenizer);
  checkBounds(body, tokens);
  // A grammar holds from the first token, unless the engine can tell where thoughts end.
  const mayThink = asked === null || tokens !== null;
  const budget = budgetOf(context, request);
  const waitLimit = waitLimitOf(request, budget);
  // The chat template writes the begin token itself.
  const frame: PromptFrame = {
    ...promptEnding(body.messages, body),
    variables: templateVariables(context.model.chat, body),
    closesThoughts: body.reasoning_effort === 'none' || !mayThink,
    addSpecial: body.add_special_tokens ?? false,
    waitLimit,
  };
  const prompt = await chatPrompt(context, body.messages, tools, frame);
  const continued = frame.continuesLast === true ? body.messages.map(textOf).at(-1) : null;
  const thoughts = tags !== null && mayThink ? answerThoughts(tags, prompt.text, continued ?? null) : null;
  return planGeneration(context, request, {
    endpoint: 'chat',
    budget,
    prompts: [prompt],
    promptParam: 'messages',
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
    defaultTokens: context.limits.maxTokensDefault,
    logprobs: body.logprobs === true ? (body.top_logprobs ?? 0) : null,
    echo: false,
    grammar: asked,
    thoughts,
    tagTokens: tokens === null ? null : { ...tokens, most: body.thinking_token_budget ?? null },
    prediction: body.prediction ? await encodePrediction(context, textOf(body.prediction), waitLimit) : null,
  });
}

function logprobs(context: ApiContext, answer: Answer, tokens: readonly ChoiceToken[]) {
  if (answer.plan.logprobs === null) return null;
  return { content: chatLogprobs(context.model.tokenizer, tokens), refusal: null };
}

const ID_PREFIX = 'chatcmpl-';

function head(answer: Answer, object: 'chat.completion' | 'chat.completion.chunk') {
  return { id: ID_PREFIX + answer.id, object, created: answer.created, model: answer.plan.modelName };
}

function callDelta({ index, id, name, arguments: text }: CallPart, first: boolean) {
  const begins = id === undefined ? {} : { id, type: 'function' };
  const named = name === undefined ? {} : { name };
  const tool_calls = [{ index, ...begins, function: { ...named, arguments: text } }];
  return first ? { content: null, tool_calls } : { tool_calls };
}

/** Joins the parts of each call. */
function toolCalls(parts: readonly CallPart[]): ToolCall[] {
  const calls: ToolCall[] = [];
  for (const { index, id = '', name = '', arguments: text } of parts) {
    const call = (calls[index] ??= { id, type: 'function', function: { name, arguments: '' } });
    call.function.arguments += text;
  }
  return calls;
}

/** `reasoning_content` is the name of DeepSeek, llama.cpp and SGLang. */
function message({ text, thoughts, calls: parts }: Collected) {
  const calls = toolCalls(parts);
  return {
    role: 'assistant',
    content: calls.length === 0 ? text : null,
    refusal: null,
    ...(thoughts !== '' && { reasoning_content: thoughts }),
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

/** The role comes with the first token and never earlier: an early chunk would falsify the client's TTFT. */
function delta({ text, call, thoughts }: Delta, isFirst: boolean) {
  const role = isFirst ? { role: 'assistant' } : {};
  if (thoughts !== '') return { ...role, reasoning_content: thoughts };
  return { ...role, ...(call === null ? { content: text } : callDelta(call, isFirst)) };
}

export const chat: Endpoint<ChatBody> = {
  idPrefix: ID_PREFIX,
  userOf: ({ user }) => user,
  plan,
  formatter(context, _request, answer, send) {
    const chunk = (choices: object[]) => ({ ...head(answer, 'chat.completion.chunk'), choices });
    return chunkFormatter(
      answer,
      {
        delta(piece, isFirst) {
          const isText = piece.call === null && piece.thoughts === '';
          const scores = isText ? logprobs(context, answer, piece.tokens) : null;
          return chunk([{ index: piece.index, delta: delta(piece, isFirst), logprobs: scores, finish_reason: null }]);
        },
        finish: (index, finish_reason) => chunk([{ index, delta: {}, logprobs: null, finish_reason }]),
        empty: () => chunk([]),
        whole: (choices) => ({
          ...head(answer, 'chat.completion'),
          choices: choices.map((choice, index) => ({
            index,
            message: message(choice),
            logprobs: choice.calls.length === 0 ? logprobs(context, answer, choice.tokens) : null,
            finish_reason: choice.finishReason,
          })),
        }),
      },
      send,
    );
  },
  terminator: '[DONE]',
};
