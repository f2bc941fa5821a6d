/** The bodies of POST /v1/responses and /v1/responses/input_tokens, and the chats that they are. */
import { quoted } from '../../../../util/quoted.js';
import { allOptional, type Static, Type, words } from '../../../../util/schema.js';
import { invalid, notSupported, stated } from '../../errors.js';
import { type NeutralValues, rejectUnsupported, toolSchema } from '../../params/value-limits.js';
import { generationFields, oneOf, oneWord, stringOr } from '../../schemas/shared.js';
import {
  type ChatBody,
  Effort,
  FunctionName,
  STRICT,
  type Tool,
  type Translation,
} from '../chat-completions/chat-body.js';
import { commonFields, TranslatedMessages } from '../chat-completions/translated-chat.js';

const Part = Type.Object({
  type: Type.String({ description: '"input_text", "output_text", "text" or "refusal".' }),
  text: Type.Optional(Type.String()),
  refusal: Type.Optional(Type.String()),
});

/** Of `include`: chats alone have log-probabilities. */
const LOGPROBS = 'message.output_text.logprobs';

const PARTS = 'a string or an array of parts with a text';

/** One schema for all types of items: the translation checks the fields of each type. */
const InputItem = Type.Object({
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
type InputItem = Static<typeof InputItem>;

const ResponseTool = Type.Object({
  type: Type.String({ description: '"function".' }),
  name: Type.Optional(FunctionName),
  description: Type.Optional(Type.String()),
  parameters: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), { description: 'JSON schema of the arguments, which are an object.' }),
  ),
  strict: STRICT,
});
type ResponseTool = Static<typeof ResponseTool>;

const Choice = words(['none', 'auto', 'required']);
const NamedChoice = Type.Object({ type: Type.Literal('function'), name: Type.String() });

const ResponseToolChoice = oneOf(
  '"none", "auto", "required", {type: "function", name} or {type: "allowed_tools", mode, tools: [{type, name}]}',
  [
    ...Choice.anyOf,
    NamedChoice,
    Type.Object({ type: Type.Literal('allowed_tools'), mode: Type.Optional(Choice), tools: Type.Array(NamedChoice) }),
  ],
);

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

const Text = Type.Object(
  allOptional({ format: Format, verbosity: oneWord(['low', 'medium', 'high'], 'Has no effect.') }),
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
      reasoning: Type.Object(
        { effort: Type.Optional(Effort) },
        { description: 'For chat templates that have thoughts. No effect on other models.' },
      ),
      include: Type.Array(Type.String(), { description: `Has no effect; ${LOGPROBS} is refused.` }),
      truncation: oneWord(['auto', 'disabled'], 'Has no effect: input beyond the context is rejected.'),
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

const Prompt = Type.Pick(ResponsesBody, [
  ...(['model', 'input', 'instructions', 'reasoning', 'text', 'truncation'] as const),
  ...(['tools', 'tool_choice', 'parallel_tool_calls'] as const),
]);

/** The fields that make the prompt, of which `input` may be absent beside `instructions`. */
export const InputTokensBody = Type.Object(
  { ...Prompt.properties, input: Type.Optional(Prompt.properties.input) },
  { examples: [{ input: 'Why is the sky blue?' }] },
);
export type InputTokensBody = Static<typeof InputTokensBody>;

/** Fields of OpenAI's responses that would change an answer and that this server does not have. */
const UNSUPPORTED: NeutralValues = {
  previous_response_id: [],
  conversation: [],
  prompt: [],
  background: [],
  context_management: [],
  // A chat's names of fields that have other names here. To ignore them would change the answer.
  messages: [],
  max_tokens: [],
  max_completion_tokens: [],
  response_format: [],
  logprobs: [],
  top_logprobs: [0],
  n: [1],
};

const SERVED = 'the server takes message, function_call, function_call_output and reasoning';

/** @throws ApiError for a part that is not text */
function textOf(content: InputItem['content'], place: string): string {
  const parts = stated(content, place);
  if (typeof parts === 'string') return parts;
  return parts
    .map(({ type, text, refusal }, index) => {
      const part = `${place}[${index}]`;
      if (type === 'refusal') return stated(refusal, `${part}.refusal`);
      const isText = ['input_text', 'output_text', 'text'].includes(type);
      if (!isText) throw notSupported(`${part}.type`, type, 'the model reads text only');
      return stated(text, `${part}.text`);
    })
    .join('');
}

/** The thoughts of an item, whose content may be encrypted by another server: then its summary. */
function thoughtsOf({ content, summary = [] }: InputItem): string {
  const parts = typeof content === 'string' ? [{ text: content }] : (content ?? []);
  return (parts.length > 0 ? parts : summary).map(({ text = '' }) => text).join('');
}

/** @throws ApiError unsupported_parameter for an item or part of another type, invalid_value for a missing field */
function addItem(messages: TranslatedMessages, item: InputItem, place: string): void {
  const { type = 'message' } = item;
  const of = <T extends keyof InputItem>(field: T) => stated<InputItem[T]>(item[field], `${place}.${field}`);
  switch (type) {
    case 'message': {
      const role = of('role');
      messages.say(role === 'developer' ? 'system' : role, textOf(item.content, `${place}.content`));
      return;
    }
    case 'function_call':
      messages.call(of('call_id'), of('name'), item.arguments ?? '', place);
      return;
    case 'function_call_output':
      messages.result(of('call_id'), textOf(item.output, `${place}.output`), place);
      return;
    case 'reasoning':
      messages.thoughts(thoughtsOf(item));
      return;
    case 'item_reference':
      throw notSupported(`${place}.type`, type, 'the server stores no items; send them in full, with store: false');
    default:
      throw notSupported(`${place}.type`, type, SERVED);
  }
}

/** @throws ApiError unsupported_parameter for a tool that is not a function */
function functionOf(tool: ResponseTool, place: string): Tool {
  const { type, description, parameters, strict = false } = tool;
  if (type !== 'function') {
    throw notSupported(`${place}.type`, type, 'the server has no tools of its own, and takes functions');
  }
  return {
    type,
    function: {
      name: stated(tool.name, `${place}.name`),
      ...(description !== undefined && { description }),
      ...(parameters && { parameters: toolSchema(parameters, strict) }),
    },
  };
}

/** The chat's choice, and the names of the functions that it may call; absent: all. */
function askedOf({ tool_choice: choice }: ResponsesBody): { allowed?: string[]; asked: ChatBody['tool_choice'] } {
  if (typeof choice !== 'object') return { asked: choice };
  if (choice.type === 'function') return { asked: { type: 'function', function: { name: choice.name } } };
  return { allowed: choice.tools.map(({ name }) => name), asked: choice.mode ?? 'auto' };
}

/** Tools and tool choice of a response in the form of a chat, with the client's names of the tools. */
function responseTools(body: ResponsesBody) {
  const { tools = [], parallel_tool_calls: isParallel } = body;
  const listed = tools.map((tool, index) => ({ tool: functionOf(tool, `tools[${index}]`), place: `tools[${index}]` }));
  const { allowed, asked } = askedOf(body);
  const unknown = allowed?.find((name) => tools.every((tool) => tool.name !== name));
  if (unknown !== undefined) {
    throw invalid('tool_choice.tools', `must name functions of tools, got ${quoted(unknown)}`);
  }
  const offered = listed.filter(({ tool }) => allowed?.includes(tool.function.name) ?? true);
  // Clients send both fields without tools, too. Only a choice that needs a tool is an error then.
  if (offered.length === 0) {
    const isNeeded = asked !== undefined && asked !== 'auto' && asked !== 'none';
    return { fields: isNeeded ? { tool_choice: asked } : {}, names: [] };
  }
  return {
    fields: {
      tools: offered.map(({ tool }) => tool),
      ...(asked !== undefined && { tool_choice: asked }),
      ...(isParallel !== undefined && { parallel_tool_calls: isParallel }),
    },
    names: offered.flatMap(({ place }, index): [string, string][] => [
      [`tools[${index}].function`, place],
      [`tools[${index}]`, place],
    ]),
  };
}

function chatFormat({ text }: ResponsesBody): ChatBody['response_format'] {
  const format = text?.format;
  if (format?.type !== 'json_schema') return format;
  const { type, ...json_schema } = format;
  return { type, json_schema };
}

/** @throws ApiError invalid_value or unsupported_parameter for items, parts and tools that a chat does not have */
export function translate(body: ResponsesBody): Translation {
  rejectUnsupported(body, ResponsesBody.properties, UNSUPPORTED);
  const { input, instructions, include } = body;
  if (include?.includes(LOGPROBS) === true) throw notSupported('include', LOGPROBS, 'chats state log-probabilities');
  const chat = new TranslatedMessages('input', 'call_id');
  if (instructions !== undefined) chat.say('system', instructions);
  if (typeof input === 'string') chat.say('user', input);
  else for (const [index, item] of input.entries()) addItem(chat, item, `input[${index}]`);
  const tools = responseTools(body);
  const format = chatFormat(body);
  const effort = body.reasoning?.effort;
  return {
    body: {
      ...commonFields(body),
      messages: chat.messages,
      ...tools.fields,
      ...(format && { response_format: format }),
      ...(body.max_output_tokens !== undefined && { max_tokens: body.max_output_tokens }),
      ...(effort !== undefined && { reasoning_effort: effort }),
    },
    names: [
      ...chat.names,
      ...tools.names,
      ['max_tokens', 'max_output_tokens'],
      ['response_format', 'text.format'],
      ['response_format.json_schema', 'text.format'],
      ['reasoning_effort', 'reasoning.effort'],
    ],
  };
}
