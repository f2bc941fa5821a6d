/** Schemas of POST /v1/responses, in OpenAI's form and that of Open Responses. */
import { allOptional, nullable, type Static, Type, words } from '../../util/schema.js';
import { ChatLogprob, Effort } from './chat.js';
import { SortieReport } from './report.js';
import { generationFields, NullableNumber, NullableString, oneOf, oneWord, stringOr } from './shared.js';
import { FunctionName } from './tools.js';

const Part = Type.Object({
  type: Type.String({ description: '"input_text", "output_text", "text" or "refusal".' }),
  text: Type.Optional(Type.String()),
  refusal: Type.Optional(Type.String()),
});

const PARTS = 'a string or an array of parts with a text';

/** One schema for all types of items: src/api/responses/input.ts checks the fields of each type. */
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

/** The meaning of `strict` in a tool of responses and messages. */
export const STRICT =
  'Every call follows its schema. Without strict, maxLength, maxItems and maxProperties above 4,096 have no effect.';

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
    ...{ model, input: Type.Optional(input), instructions, reasoning, text, truncation },
    ...{ tools, tool_choice, parallel_tool_calls },
  },
  { examples: [{ input: 'Why is the sky blue?' }] },
);
export type InputTokensBody = Static<typeof InputTokensBody>;

export const InputTokensAnswer = Type.Object({
  object: Type.Literal('response.input_tokens'),
  input_tokens: Type.Integer(),
});
export type InputTokensAnswer = Static<typeof InputTokensAnswer>;

const Status = words(['in_progress', 'completed', 'incomplete']);

const MessageItem = Type.Object({
  type: Type.Literal('message'),
  id: Type.String(),
  status: Status,
  role: Type.Literal('assistant'),
  content: Type.Array(
    Type.Object({
      type: Type.Literal('output_text'),
      text: Type.String(),
      annotations: Type.Array(Type.Unknown()),
      logprobs: Type.Array(ChatLogprob),
    }),
  ),
});

const CallItem = Type.Object({
  type: Type.Literal('function_call'),
  id: Type.String(),
  status: Status,
  call_id: Type.String(),
  name: Type.String(),
  arguments: Type.String(),
});

/** Thoughts in front of a message or a call. */
const ReasoningItem = Type.Object({
  type: Type.Literal('reasoning'),
  id: Type.String(),
  status: Status,
  summary: Type.Array(Type.Unknown()),
  content: Type.Array(Type.Object({ type: Type.Literal('reasoning_text'), text: Type.String() })),
});

export const OutputItem = Type.Union([MessageItem, CallItem, ReasoningItem]);
export type OutputItem = Static<typeof OutputItem>;

export const ResponsesUsage = Type.Object({
  input_tokens: Type.Integer(),
  input_tokens_details: Type.Object({ cached_tokens: Type.Integer() }),
  output_tokens: Type.Integer(),
  output_tokens_details: Type.Object({ reasoning_tokens: Type.Integer() }),
  total_tokens: Type.Integer(),
});
export type ResponsesUsage = Static<typeof ResponsesUsage>;

/** A response. Fields of the request come back as they were sent, sampling fields as they were used. */
export const ResponsesAnswer = Type.Object({
  id: Type.String(),
  object: Type.Literal('response'),
  created_at: Type.Integer(),
  completed_at: NullableNumber,
  status: Type.Union([...Status.anyOf, Type.Literal('failed')]),
  incomplete_details: nullable(Type.Object({ reason: Type.Literal('max_output_tokens') })),
  error: nullable(Type.Object({ code: Type.String(), message: Type.String() })),
  model: Type.String(),
  output: Type.Array(OutputItem),
  usage: nullable(ResponsesUsage),
  instructions: NullableString,
  max_output_tokens: NullableNumber,
  max_tool_calls: NullableNumber,
  metadata: Type.Record(Type.String(), Type.String()),
  parallel_tool_calls: Type.Boolean(),
  previous_response_id: Type.Null(),
  prompt_cache_key: NullableString,
  reasoning: nullable(Type.Object({ effort: NullableString, summary: Type.Null() })),
  safety_identifier: NullableString,
  service_tier: Type.Literal('default'),
  store: Type.Literal(false),
  background: Type.Literal(false),
  text: Type.Object({ format: Type.Unknown(), verbosity: Type.Literal('medium') }),
  tools: Type.Array(Type.Unknown()),
  tool_choice: Type.Unknown(),
  temperature: Type.Number(),
  top_p: Type.Number(),
  top_logprobs: Type.Integer(),
  presence_penalty: Type.Number(),
  frequency_penalty: Type.Number(),
  truncation: Type.Literal('disabled'),
  user: NullableString,
  sortie: Type.Optional(SortieReport),
});
export type ResponsesAnswer = Static<typeof ResponsesAnswer>;
