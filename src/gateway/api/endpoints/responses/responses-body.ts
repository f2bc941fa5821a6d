/** Schemas of the bodies of POST /v1/responses and /v1/responses/input_tokens. */
import { allOptional, type Static, Type, words } from '../../../../util/schema.js';
import { Effort, FunctionName } from '../chat-completions/chat-body.js';
import { generationFields, oneOf, oneWord, STRICT, stringOr } from '../../schemas/shared.js';

const Part = Type.Object({
  type: Type.String({ description: '"input_text", "output_text", "text" or "refusal".' }),
  text: Type.Optional(Type.String()),
  refusal: Type.Optional(Type.String()),
});

const PARTS = 'a string or an array of parts with a text';

/** One schema for all types of items: translate-responses.ts checks the fields of each type. */
export const InputItem = Type.Object({
  ...allOptional({
    type: Type.String({
      default: 'message',
      description: '"message", "function_call", "function_call_output" or "reasoning".',
    }),
    role: oneWord(['system', 'developer', 'user', 'assistant']),
    content: stringOr(PARTS, Part, { description: 'Text of a message, or thoughts of a reasoning item.' }),
    summary: Type.Array(Part, { description: 'Of a reasoning item; counts without content.' }),
    call_id: Type.String({ minLength: 1 }),
    name: Type.String({ minLength: 1 }),
    arguments: Type.String({ description: 'Of a function_call: a JSON object as text.' }),
    output: stringOr(PARTS, Part, { description: 'Of a function_call_output.' }),
  }),
});
export type InputItem = Static<typeof InputItem>;

export const ResponseTool = Type.Object({
  type: Type.String({ description: '"function".' }),
  name: Type.Optional(FunctionName),
  description: Type.Optional(Type.String()),
  parameters: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), { description: 'JSON schema of the arguments, which are an object.' }),
  ),
  strict: Type.Optional(Type.Boolean({ default: false, description: STRICT })),
});
export type ResponseTool = Static<typeof ResponseTool>;

const Choice = words(['none', 'auto', 'required']);
const NamedChoice = Type.Object({ type: Type.Literal('function'), name: Type.String() });

export const ResponseToolChoice = oneOf(
  '"none", "auto", "required", {type: "function", name} or {type: "allowed_tools", mode, tools: [{type, name}]}',
  [
    ...Choice.anyOf,
    NamedChoice,
    Type.Object({ type: Type.Literal('allowed_tools'), mode: Type.Optional(Choice), tools: Type.Array(NamedChoice) }),
  ],
);
export type ResponseToolChoice = Static<typeof ResponseToolChoice>;

const Format = oneOf('{type: "text"}, {type: "json_object"} or {type: "json_schema", schema}', [
  Type.Object({ type: Type.Literal('text') }),
  Type.Object({ type: Type.Literal('json_object') }),
  Type.Object({
    type: Type.Literal('json_schema'),
    name: Type.Optional(Type.String()),
    description: Type.Optional(Type.String()),
    schema: Type.Record(Type.String(), Type.Unknown()),
    strict: Type.Optional(Type.Boolean()),
  }),
]);

const Text = Type.Object({
  ...allOptional({
    format: Format,
    verbosity: oneWord(['low', 'medium', 'high'], 'Has no effect; X-Sortie-Warning says so.'),
  }),
});

const Reasoning = Type.Object(
  { effort: Type.Optional(Effort) },
  { description: 'For chat templates that have thoughts. No effect on other models; X-Sortie-Warning says so.' },
);

const Truncation = oneWord(
  ['auto', 'disabled'],
  'Has no effect, and X-Sortie-Warning says so: input beyond the context is rejected.',
);

const { stream, temperature, top_p, user, ...others } = Type.Omit(Type.Object(generationFields), [
  'n',
  'response_format',
  'stream_options',
]).properties;

export const ResponsesBody = Type.Object(
  {
    stream,
    temperature,
    top_p,
    user,
    input: stringOr('a string or an array of items', InputItem, {
      minItems: 1,
      description: 'A user message, or the items of the whole conversation: the server stores none.',
    }),
    ...allOptional({
      instructions: Type.String({ description: 'A system message before the input.' }),
      max_output_tokens: Type.Integer({ minimum: 1 }),
      text: Text,
      tools: Type.Array(ResponseTool, { maxItems: 128, 'x-rule': 'an array of at most 128 functions' }),
      tool_choice: ResponseToolChoice,
      parallel_tool_calls: Type.Boolean({ default: true, description: 'Allows several calls in one answer.' }),
      reasoning: Reasoning,
      truncation: Truncation,
      top_logprobs: Type.Integer({ minimum: 0, maximum: 20 }),
      include: Type.Array(Type.String(), {
        description: 'message.output_text.logprobs adds log-probabilities. Other values have no effect.',
      }),
      store: Type.Boolean({ description: 'Has no effect: the server stores no response.' }),
      metadata: Type.Record(Type.String(), Type.String(), { description: 'Returned unchanged.' }),
      safety_identifier: Type.String({ description: 'Returned unchanged.' }),
      prompt_cache_key: Type.String({ description: 'Returned unchanged.' }),
      max_tool_calls: Type.Integer({ minimum: 1, description: 'A limit for tools of the server, which has none.' }),
      service_tier: Type.String({ description: 'Has no effect.' }),
    }),
    ...others,
  },
  {
    examples: [
      {
        model: 'smollm2-135m-sorted',
        instructions: 'Answer in one sentence.',
        input: 'What is the capital of France?',
        max_output_tokens: 32,
        temperature: 0,
        sortie: { latency_budget_ms: 2000 },
      },
    ],
  },
);
export type ResponsesBody = Static<typeof ResponsesBody>;

const { model, input, instructions, tools, tool_choice, parallel_tool_calls, reasoning, text, truncation } =
  ResponsesBody.properties;

/** The fields that make the prompt, of which `input` may be absent beside `instructions`. */
export const InputTokensBody = Type.Object(
  {
    model,
    input: Type.Optional(input),
    instructions,
    reasoning,
    text,
    truncation,
    tools,
    tool_choice,
    parallel_tool_calls,
  },
  { examples: [{ input: 'Why is the sky blue?' }] },
);
export type InputTokensBody = Static<typeof InputTokensBody>;
