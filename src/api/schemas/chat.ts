/** Schemas of POST /v1/chat/completions. */
import { type Static, Type, allOptional, nullable } from '../../util/schema.js';
import { FinishReason } from './completions.js';
import { SortieReport } from './report.js';
import { generationFields, NullableString, oneOf, Usage, oneWord } from './shared.js';
import { ToolCall, toolFields } from './tools.js';

const TextPart = Type.Object({ type: Type.Literal('text'), text: Type.String() });

const textContent = (description: string) =>
  oneOf('a string or an array of {type: "text", text} parts (the model reads text only)', [
    Type.String({ description }),
    Type.Array(TextPart, { minItems: 1 }),
  ]);

export const ChatMessageBody = Type.Object({
  role: oneWord(['system', 'developer', 'user', 'assistant', 'tool']),
  ...allOptional({
    content: textContent('Required, except for an assistant message with tool_calls.'),
    name: Type.String(),
    reasoning_content: Type.String({
      description: 'Thoughts of an assistant message; the chat template decides whether the model sees them.',
    }),
    tool_calls: Type.Array(ToolCall, { description: 'Calls of an assistant message.' }),
    prefix: Type.Boolean({
      description: 'In a last assistant message: the answer continues it, as with continue_final_message.',
    }),
    tool_call_id: Type.String({ description: 'In a tool message: the id of the call that it answers.' }),
  }),
});
export type ChatMessageBody = Static<typeof ChatMessageBody>;

/** vLLM's fields for the end of the prompt. */
export const endingFields = {
  ...allOptional({
    add_generation_prompt: Type.Boolean({
      description:
        'Adds the start of the answer after the messages. Default: true, or false with continue_final_message.',
    }),
    continue_final_message: Type.Boolean({
      default: false,
      description: 'The answer continues the last message, which stays open, and holds only the continuation.',
    }),
  }),
};

export const Effort = oneWord(['none', 'minimal', 'low', 'medium', 'high', 'xhigh']);

/** Fields for variables of the chat template. */
export const templateFields = {
  ...allOptional({
    chat_template_kwargs: Type.Record(Type.String(), Type.Unknown(), {
      description: 'Further variables of the chat template, such as enable_thinking, as in vLLM.',
    }),
    reasoning_effort: Effort,
    thinking_token_budget: Type.Integer({
      minimum: 0,
      description: 'Most tokens of the thoughts of a model that thinks, as in vLLM.',
    }),
  }),
};

export const ChatBody = Type.Object(
  {
    ...generationFields,
    ...endingFields,
    ...templateFields,
    messages: Type.Array(ChatMessageBody, { minItems: 1 }),
    max_tokens: Type.Optional(Type.Integer({ minimum: 1 })),
    max_completion_tokens: Type.Optional(Type.Integer({ minimum: 1, description: 'Wins over max_tokens.' })),
    logprobs: Type.Optional(Type.Boolean({ default: false })),
    top_logprobs: Type.Optional(Type.Integer({ minimum: 0, maximum: 20 })),
    ...toolFields,
    prediction: Type.Optional(
      Type.Object({
        type: Type.Literal('content'),
        content: textContent(
          'Text that the answer is expected to hold, such as a file to edit. The server takes drafts from it.',
        ),
      }),
    ),
  },
  {
    examples: [
      {
        model: 'smollm2-135m-sorted',
        messages: [{ role: 'user', content: 'What is the capital of France?' }],
        max_tokens: 32,
        temperature: 0,
        sortie: { latency_budget_ms: 2000 },
      },
      {
        model: 'smollm2-135m-sorted',
        messages: [{ role: 'user', content: 'What is the weather in Paris?' }],
        tools: [
          {
            type: 'function',
            function: {
              name: 'get_weather',
              description: 'Current weather of a city.',
              parameters: {
                type: 'object',
                properties: { city: { type: 'string', maxLength: 40 } },
                required: ['city'],
                additionalProperties: false,
              },
            },
          },
        ],
        tool_choice: 'required',
        max_tokens: 64,
        sortie: { latency_budget_ms: 2000 },
      },
    ],
  },
);
export type ChatBody = Static<typeof ChatBody>;

const TopLogprob = Type.Object({ token: Type.String(), logprob: Type.Number(), bytes: Type.Array(Type.Integer()) });
export const ChatLogprob = Type.Object({ ...TopLogprob.properties, top_logprobs: Type.Array(TopLogprob) });
export type ChatLogprob = Static<typeof ChatLogprob>;

export const ChatAnswer = Type.Object({
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
export type ChatAnswer = Static<typeof ChatAnswer>;
