/** POST /v1/chat/completions: from a valid body to an answer, whole or as chunks. */
import { present } from '../../../../util/present.js';
import { nullable, Type } from '../../../../util/schema.js';
import { invalid } from '../../errors.js';
import type { CallPart } from '../../generation/call-reader.js';
import type { ChoiceToken, Delta } from '../../generation/choice.js';
import { chunkForm } from '../../generation/chunks.js';
import type { Fields } from '../../generation/joined-fields.js';
import type { ApiContext, ApiRequest } from '../../context.js';
import { ChatLogprob, chatLogprobs } from '../../generation/logprobs.js';
import { encodePrediction, waitLimitOf } from '../../generation/prompt.js';
import { budgetOf, readRequest, type GenerationRequest } from '../../generation/read-request.js';
import { answerGrammar } from '../../params/structured-outputs.js';
import { answerThoughts, thoughtTokens } from '../../params/thoughts.js';
import { rejectUnsupported } from '../../params/value-limits.js';
import { SortieReport } from '../../schemas/report.js';
import { FinishReason, NullableString, Usage } from '../../schemas/shared.js';
import type { GeneratingEndpoint } from '../endpoint.js';
import { ChatBody, ToolCall } from './chat-body.js';
import { chatPrompt, textOf } from './chat-prompt.js';
import { planTools } from './tool-grammar.js';

/** Questions for code, whose first statement ends later than the first sentence of a prose text. */
const CODE = /```|\b(?:code|function|script|SQL|HTML|CSS|JSON|Python|JavaScript|TypeScript|Java|Rust)\b/i;

export async function readChat(context: ApiContext, request: ApiRequest<ChatBody>): Promise<GenerationRequest> {
  const { body } = request;
  rejectUnsupported(body, ChatBody.properties);
  if ((body.top_logprobs ?? 0) > 0 && body.logprobs !== true) {
    throw invalid('top_logprobs', 'is only allowed with logprobs: true');
  }
  const { tools, grammar: asked } = planTools(body, answerGrammar(body));
  const tags = context.model.chat?.thoughts ?? null;
  const tokens = tags === null ? null : thoughtTokens(tags, context.model.tokenizer);
  // A grammar holds from the first token, unless the engine can tell where thoughts end.
  const mayThink = asked === null || tokens !== null;
  const budget = budgetOf(context, request);
  const waitLimit = waitLimitOf(request, budget);
  const prompt = await chatPrompt(context, body, { tools, waitLimit, mayThink });
  const last = body.messages.at(-1);
  const continued = body.continue_final_message === true && last !== undefined ? textOf(last) : null;
  const thoughts = tags !== null && mayThink ? answerThoughts(tags, prompt.text, continued) : null;
  return readRequest(context, request, {
    kind: body.messages.some((each) => each.role === 'user' && CODE.test(textOf(each))) ? 'code' : 'chat',
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

function callDelta({ index, id, name, arguments: text, more }: CallPart, first: boolean) {
  const begins = id === undefined ? {} : { id, type: 'function' };
  const named = name === undefined ? {} : { name };
  const tool_calls = [{ index, ...begins, function: { ...named, arguments: text }, ...more }];
  return first ? { content: null, tool_calls } : { tool_calls };
}

/** The message of an answer, out of its deltas. */
function message({ tool_calls: calls, ...delta }: Fields) {
  const own = { role: 'assistant', content: calls === undefined ? '' : null, refusal: null, ...present(delta) };
  if (!Array.isArray(calls)) return own;
  return { ...own, tool_calls: calls.map((call: Fields) => present({ ...call, index: null })) };
}

/**
 * The role comes with the first token and never earlier: an early chunk would falsify the client's TTFT.
 * `reasoning_content` is the name of DeepSeek, llama.cpp and SGLang.
 */
function delta({ text, call, thoughts, more }: Delta, isFirst: boolean) {
  const role = { ...(isFirst && { role: 'assistant' }), ...more?.delta };
  if (thoughts !== '') return { ...role, reasoning_content: thoughts };
  return { ...role, ...(call === null ? { content: text } : callDelta(call, isFirst)) };
}

const ChatAnswer = Type.Object({
  id: Type.String(),
  object: Type.Literal('chat.completion'),
  created: Type.Integer(),
  model: Type.String(),
  choices: Type.Array(
    Type.Object({
      index: Type.Integer(),
      message: Type.Object({
        role: Type.Literal('assistant'),
        content: NullableString,
        refusal: Type.Null(),
        reasoning_content: Type.Optional(Type.String({ description: 'Thoughts in front of the answer.' })),
        tool_calls: Type.Optional(Type.Array(ToolCall)),
      }),
      logprobs: nullable(Type.Object({ content: Type.Array(ChatLogprob), refusal: Type.Null() })),
      finish_reason: Type.Union([...FinishReason.anyOf, Type.Literal('tool_calls')]),
    }),
  ),
  usage: Usage,
  sortie: SortieReport,
});

export const chatCompletions: GeneratingEndpoint<ChatBody> = {
  path: '/v1/chat/completions',
  operationId: 'createChatCompletion',
  summary: 'Answer a chat at the depth that the budget allows',
  tag: 'OpenAI',
  operation: 'chat',
  body: ChatBody,
  answer: ChatAnswer,
  events: '(chat.completion.chunk).',
  userOf: ({ user }) => user,
  read: readChat,
  form(_request, answer, send) {
    const { tokenizer } = answer.model;
    const scores = (tokens: readonly ChoiceToken[]) =>
      tokenizer === null || answer.request.engine.logprobs === null
        ? null
        : { content: chatLogprobs(tokenizer, tokens), refusal: null };
    return chunkForm(
      answer,
      {
        idPrefix: 'chatcmpl-',
        object: { chunk: 'chat.completion.chunk', whole: 'chat.completion' },
        delta: (piece, isFirst) => ({
          delta: delta(piece, isFirst),
          logprobs: piece.call === null && piece.thoughts === '' ? scores(piece.tokens) : null,
        }),
        end: { delta: {}, logprobs: null },
        whole: ({ delta, logprobs, ...choice }, tokens) => ({
          message: message(delta as Fields),
          logprobs: logprobs ?? ('tool_calls' in (delta as Fields) ? null : scores(tokens)),
          ...choice,
        }),
      },
      send,
    );
  },
  terminator: '[DONE]',
};
