/** Schemas of the bodies of POST /v1/messages and /v1/messages/count_tokens, in Anthropic's form. */
import { allOptional, type Static, Type } from '../../../../util/schema.js';
import { generationFields, oneOf, oneWord, StopStringList, STRICT, stringOr } from '../../schemas/shared.js';

const TextBlock = Type.Object({ type: Type.String({ description: '"text".' }), text: Type.Optional(Type.String()) });

const BLOCKS = 'a string or an array of blocks with a type';

/** One schema for all types of blocks: translate-messages.ts checks the fields of each type. */
export const ContentBlock = Type.Object({
  type: Type.String({
    description:
      '"text", "tool_use", "tool_result" or "thinking". "redacted_thinking" has no effect: only its server can read it.',
  }),
  text: Type.Optional(Type.String()),
  thinking: Type.Optional(Type.String({ description: 'Of a thinking block.' })),
  id: Type.Optional(Type.String({ minLength: 1 })),
  name: Type.Optional(Type.String({ minLength: 1 })),
  input: Type.Optional(Type.Record(Type.String(), Type.Unknown(), { description: 'Of a tool_use.' })),
  tool_use_id: Type.Optional(Type.String({ minLength: 1 })),
  content: Type.Optional(stringOr(BLOCKS, TextBlock, { description: 'Of a tool_result.' })),
  is_error: Type.Optional(Type.Boolean({ description: 'Of a tool_result: puts "Error: " before the content.' })),
});
export type ContentBlock = Static<typeof ContentBlock>;

export const InputMessage = Type.Object({
  role: oneWord(['user', 'assistant', 'system']),
  content: stringOr(BLOCKS, ContentBlock),
});
export type InputMessage = Static<typeof InputMessage>;

export const MessagesTool = Type.Object({
  type: Type.Optional(Type.String({ default: 'custom', description: '"custom".' })),
  name: Type.String({
    pattern: '^[a-zA-Z0-9_-]{1,128}$',
    'x-rule': '1 to 128 letters, digits, underscores and hyphens',
  }),
  description: Type.Optional(Type.String()),
  input_schema: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), {
      description: 'Required. JSON schema of the input, which is an object.',
    }),
  ),
  strict: Type.Optional(Type.Boolean({ default: false, description: STRICT })),
});
export type MessagesTool = Static<typeof MessagesTool>;

const parallel = {
  disable_parallel_tool_use: Type.Optional(Type.Boolean({ default: false, description: 'Allows one call at most.' })),
};

export const MessagesToolChoice = oneOf('{type: "auto"}, {type: "any"}, {type: "tool", name} or {type: "none"}', [
  Type.Object({ type: Type.Literal('auto'), ...parallel }),
  Type.Object({ type: Type.Literal('any'), ...parallel }),
  Type.Object({ type: Type.Literal('tool'), name: Type.String(), ...parallel }),
  Type.Object({ type: Type.Literal('none') }),
]);
export type MessagesToolChoice = Static<typeof MessagesToolChoice>;

const OutputConfig = Type.Object({
  ...allOptional({
    format: Type.Object({
      type: Type.Literal('json_schema'),
      schema: Type.Record(Type.String(), Type.Unknown()),
    }),
  }),
});

/** The fields that make the prompt. */
const promptFields = {
  model: generationFields.model,
  system: Type.Optional(stringOr('a string or an array of text blocks', TextBlock)),
  messages: Type.Array(InputMessage, { minItems: 1 }),
  tools: Type.Optional(Type.Array(MessagesTool, { maxItems: 128, 'x-rule': 'an array of at most 128 tools' })),
  tool_choice: Type.Optional(MessagesToolChoice),
  thinking: Type.Optional(
    Type.Object(
      {
        type: Type.String({ description: '"enabled", "adaptive" or "disabled", the default.' }),
        budget_tokens: Type.Optional(Type.Integer({ minimum: 0, description: 'Most tokens of the thoughts.' })),
      },
      { description: 'Whether a model that can think does so. No effect on other models.' },
    ),
  ),
};

const { stream, temperature, top_p, top_k, ...others } = Type.Omit(Type.Object(generationFields), [
  ...(['model', 'n', 'stop', 'user', 'response_format', 'stream_options'] as const),
]).properties;

export const MessagesBody = Type.Object(
  {
    ...promptFields,
    max_tokens: Type.Integer({
      minimum: 1,
      description: 'More than the context has left ends at the context: model_context_window_exceeded.',
    }),
    stream,
    temperature,
    top_p,
    top_k,
    stop_sequences: Type.Optional(StopStringList),
    output_config: Type.Optional(OutputConfig),
    metadata: Type.Optional(
      Type.Object({ user_id: Type.Optional(Type.String({ description: 'Its first 256 characters go to the log.' })) }),
    ),
    ...others,
  },
  {
    examples: [
      {
        model: 'smollm2-135m-sorted',
        max_tokens: 32,
        messages: [{ role: 'user', content: 'What is the capital of France?' }],
        temperature: 0,
        sortie: { latency_budget_ms: 2000 },
      },
    ],
  },
);
export type MessagesBody = Static<typeof MessagesBody>;

/** A body of /v1/messages can be counted unchanged. */
export const CountTokensBody = Type.Object(promptFields, {
  examples: [{ messages: [{ role: 'user', content: 'Why is the sky blue?' }] }],
});
export type CountTokensBody = Static<typeof CountTokensBody>;
