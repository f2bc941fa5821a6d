/** Schema of the body of POST /v1/chat/completions: messages, tools, and the other fields. */
import { allOptional, type Static, Type } from '../../../../util/schema.js';
import { generationFields, oneOf, oneWord } from '../../schemas/shared.js';

export const FunctionName = Type.String({
  pattern: '^[a-zA-Z0-9_-]{1,64}$',
  'x-rule': '1 to 64 letters, digits, underscores and hyphens',
});

/** In a tool of another dialect, whose agents state large counts as hints. */
export const STRICT = Type.Optional(
  Type.Boolean({
    default: false,
    description:
      'Every call follows its schema. Without strict, maxLength, maxItems and maxProperties above 4,096 have no effect.',
  }),
);

export const Tool = Type.Object({
  type: Type.Literal('function', { 'x-rule': '"function"' }),
  function: Type.Object({
    name: FunctionName,
    description: Type.Optional(Type.String()),
    parameters: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), {
        description: 'JSON schema of the arguments, which are an object. Absent: no arguments.',
      }),
    ),
    strict: Type.Optional(Type.Boolean({ description: 'Has no effect: every call follows its schema.' })),
  }),
});
export type Tool = Static<typeof Tool>;

export const ToolChoice = oneOf('"none", "auto", "required" or {type: "function", function: {name}}', [
  Type.Literal('none'),
  Type.Literal('auto'),
  Type.Literal('required'),
  Type.Object({ type: Type.Literal('function'), function: Type.Object({ name: Type.String() }) }),
]);

export const toolFields = {
  tools: Type.Optional(Type.Array(Tool, { maxItems: 128, 'x-rule': 'an array of at most 128 functions' })),
  tool_choice: Type.Optional(ToolChoice),
  parallel_tool_calls: Type.Optional(
    Type.Boolean({ default: true, description: 'Allows several calls in one answer.' }),
  ),
};

/** A call of an answer, which the next request returns. */
export const ToolCall = Type.Object({
  id: Type.String({ minLength: 1 }),
  type: Type.Literal('function', { 'x-rule': '"function"' }),
  function: Type.Object({ name: FunctionName, arguments: Type.String({ description: 'A JSON object as text.' }) }),
});
export type ToolCall = Static<typeof ToolCall>;

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
    tool_call_id: Type.String({ description: 'In a tool message: the id of the call that it answers.' }),
  }),
});
export type ChatMessageBody = Static<typeof ChatMessageBody>;

/** vLLM's fields for the end of the prompt. */
export const endingFields = allOptional({
  add_generation_prompt: Type.Boolean({
    description:
      'Adds the start of the answer after the messages. Default: true, or false with continue_final_message.',
  }),
  continue_final_message: Type.Boolean({
    default: false,
    description: 'The answer continues the last message, which stays open, and holds only the continuation.',
  }),
});

export const Effort = oneWord(['none', 'minimal', 'low', 'medium', 'high', 'xhigh']);

/** Fields for variables of the chat template. */
export const templateFields = allOptional({
  chat_template_kwargs: Type.Record(Type.String(), Type.Unknown(), {
    description: 'Further variables of the chat template, such as enable_thinking, as in vLLM.',
  }),
  reasoning_effort: Effort,
  thinking_token_budget: Type.Integer({
    minimum: 0,
    description:
      'Most tokens of the thoughts, as in vLLM. No effect on a model that does not think between two tokens of its own.',
  }),
});

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
    ],
  },
);
export type ChatBody = Static<typeof ChatBody>;

/** A body of another protocol as the body of a chat. */
export interface Translation {
  readonly body: ChatBody;
  /**
   * Parameters of the chat and the client's names for them. A name stands for its fields and items, too:
   * `messages[0]` for `messages[0].content`.
   */
  readonly names: readonly (readonly [chat: string, client: string])[];
}
