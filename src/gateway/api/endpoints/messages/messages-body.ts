/** The bodies of POST /v1/messages and /v1/messages/count_tokens, in Anthropic's form, and the chats that they are. */
import { allOptional, type Static, Type } from '../../../../util/schema.js';
import { invalid, notSupported, stated } from '../../errors.js';
import { type NeutralValues, rejectUnsupported, toolSchema } from '../../params/value-limits.js';
import { generationFields, oneOf, oneWord, StopStringList, stringOr } from '../../schemas/shared.js';
import { type ChatBody, STRICT, type Tool, type Translation } from '../chat-completions/chat-body.js';
import { commonFields, TranslatedMessages } from '../chat-completions/translated-chat.js';

const TextBlock = Type.Object({ type: Type.String({ description: '"text".' }), text: Type.Optional(Type.String()) });

const BLOCKS = 'a string or an array of blocks with a type';

/** One schema for all types of blocks: the translation checks the fields of each type. */
const ContentBlock = Type.Object({
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
type ContentBlock = Static<typeof ContentBlock>;

const InputMessage = Type.Object({
  role: oneWord(['user', 'assistant', 'system']),
  content: stringOr(BLOCKS, ContentBlock),
});
type InputMessage = Static<typeof InputMessage>;

const MessagesTool = Type.Object({
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
  strict: STRICT,
});
type MessagesTool = Static<typeof MessagesTool>;

const parallel = {
  disable_parallel_tool_use: Type.Optional(Type.Boolean({ default: false, description: 'Allows one call at most.' })),
};

const MessagesToolChoice = oneOf('{type: "auto"}, {type: "any"}, {type: "tool", name} or {type: "none"}', [
  Type.Object({ type: Type.Literal('auto'), ...parallel }),
  Type.Object({ type: Type.Literal('any'), ...parallel }),
  Type.Object({ type: Type.Literal('tool'), name: Type.String(), ...parallel }),
  Type.Object({ type: Type.Literal('none') }),
]);
const OutputConfig = Type.Object(
  allOptional({
    format: Type.Object({ type: Type.Literal('json_schema'), schema: Type.Record(Type.String(), Type.Unknown()) }),
  }),
);

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

/** Fields that would change an answer and that this server does not have. */
const UNSUPPORTED: NeutralValues = {
  container: [],
  mcp_servers: [],
  output_format: [],
  // A chat's names of fields that have other names here.
  stop: [],
  response_format: [],
  max_completion_tokens: [],
  n: [1],
};

/** A text, or the texts of blocks that may only hold text. @throws ApiError for another block */
function textsOf(content: ContentBlock['content'] = [], place: string): readonly string[] {
  if (typeof content === 'string') return [content];
  return content.map(({ type, text }, index) => {
    if (type !== 'text') throw notSupported(`${place}[${index}].type`, type, 'the model reads text only');
    return stated(text, `${place}[${index}].text`);
  });
}

/** The blocks that messages of one role alone have. */
const ROLES: Readonly<Record<string, InputMessage['role']>> = {
  tool_use: 'assistant',
  tool_result: 'user',
  thinking: 'assistant',
  redacted_thinking: 'assistant',
};

/** @throws ApiError unsupported_parameter for a block of another type, invalid_value for a missing field */
function addMessage(chat: TranslatedMessages, { role, content }: InputMessage, place: string): void {
  /** Texts in a row are one. Those in front of a result follow it: a chat has results directly behind their calls. */
  let texts: string[][] = [[]];
  const say = (): void => {
    const said = texts.filter((row) => row.length > 0).map((row) => row.join(''));
    if (said.length > 0) chat.say(role, said.join('\n\n'));
    texts = [[]];
  };
  const blocks = typeof content === 'string' ? [{ type: 'text', text: content }] : content;
  blocks.forEach((block: ContentBlock, index) => {
    const own = `${place}.content[${index}]`;
    const of = <T extends keyof ContentBlock>(field: T) => stated<ContentBlock[T]>(block[field], `${own}.${field}`);
    const { type } = block;
    if ((ROLES[type] ?? role) !== role)
      throw notSupported(`${own}.type`, type, `only ${ROLES[type]} messages have such blocks`);
    if (type === 'text') texts.at(-1)?.push(of('text'));
    else if (type === 'tool_use') {
      say();
      chat.call(of('id'), of('name'), JSON.stringify(of('input')), own);
    } else if (type === 'tool_result') {
      texts.push([]);
      const result = textsOf(block.content, `${own}.content`).join('');
      chat.result(of('tool_use_id'), block.is_error === true ? `Error: ${result}` : result, own);
    } else if (type === 'thinking') chat.thoughts(of('thinking'));
    else if (type !== 'redacted_thinking')
      throw notSupported(`${own}.type`, type, 'the model reads text, tool_use and tool_result');
  });
  say();
}

/** @throws ApiError unsupported_parameter for a tool of Anthropic's server */
function toolOf(tool: MessagesTool, index: number): Tool {
  const { type = 'custom', name, description, input_schema: schema, strict = false } = tool;
  if (type !== 'custom') {
    const rule = 'the server has no tools of its own, and takes those with an input_schema';
    throw notSupported(`tools[${index}].type`, type, rule);
  }
  const parameters = toolSchema(stated(schema, `tools[${index}].input_schema`), strict);
  return { type: 'function', function: { name, ...(description !== undefined && { description }), parameters } };
}

/** The chat's words for the choices that name no tool. */
const ANY = { any: 'required', auto: 'auto', none: 'none' } as const;

/** The fields of a chat for tools. A choice that needs no tool is allowed without any. */
function toolFieldsOf({ tools = [], tool_choice: choice }: PromptBody): Partial<ChatBody> {
  if (tools.length === 0 && choice?.type !== 'any' && choice?.type !== 'tool') return {};
  const fields = { tools: tools.map(toolOf) };
  if (choice === undefined) return fields;
  const isSingle = choice.type !== 'none' && choice.disable_parallel_tool_use === true;
  return {
    ...fields,
    tool_choice: choice.type === 'tool' ? { type: 'function', function: { name: choice.name } } : ANY[choice.type],
    ...(isSingle && { parallel_tool_calls: false }),
  };
}

/**
 * Anthropic's models think only if a request asks for it, and its clients expect no other block in front of the text.
 */
function thoughtsOf({ thinking }: PromptBody, isLocal: boolean): Partial<ChatBody> {
  const isAsked = thinking !== undefined && ['enabled', 'adaptive'].includes(thinking.type);
  // A model elsewhere may know neither field.
  if (!isLocal) return isAsked ? { reasoning_effort: 'medium' } : {};
  if (!isAsked) return { reasoning_effort: 'none' };
  const most = thinking.budget_tokens;
  return { reasoning_effort: 'medium', ...(most !== undefined && { thinking_token_budget: most }) };
}

type PromptBody = CountTokensBody & Pick<Partial<MessagesBody>, 'stop_sequences' | 'output_config'>;

/** @throws ApiError invalid_value or unsupported_parameter for blocks and tools that a chat does not have */
export function translate(body: PromptBody, isLocal = true): Translation {
  rejectUnsupported(body, MessagesBody.properties, UNSUPPORTED);
  const { stop_sequences: stop, output_config: output, tools = [] } = body;
  const chat = new TranslatedMessages('messages', 'tool_use_id');
  const rules = textsOf(body.system, 'system').join('\n\n');
  if (rules !== '') chat.say('system', rules);
  body.messages.forEach((message, index) => {
    addMessage(chat, message, `messages[${index}]`);
  });
  const last = chat.messages.at(-1);
  if (last === undefined) throw invalid('messages', 'must have content, got none');
  return {
    body: {
      ...commonFields(body),
      messages: chat.messages,
      // The answer continues a last message of the assistant. One with calls is complete.
      ...(last.role === 'assistant' &&
        last.tool_calls === undefined && { continue_final_message: true, add_generation_prompt: false }),
      ...toolFieldsOf(body),
      ...thoughtsOf(body, isLocal),
      ...(stop && { stop }),
      ...(output?.format && {
        response_format: { type: 'json_schema', json_schema: { schema: output.format.schema } },
      }),
    },
    names: [
      ...chat.names,
      ...tools.flatMap((_, index): [string, string][] => [
        [`tools[${index}].function.parameters`, `tools[${index}].input_schema`],
        [`tools[${index}].function`, `tools[${index}]`],
      ]),
      ['stop', 'stop_sequences'],
      ['reasoning_effort', 'thinking'],
      ['thinking_token_budget', 'thinking.budget_tokens'],
      ['response_format', 'output_config.format'],
      ['response_format.json_schema', 'output_config.format'],
    ],
  };
}
