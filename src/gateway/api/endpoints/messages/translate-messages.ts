/** The body of /v1/messages and of its count of tokens as the body of a chat. */
import { hasThoughts, withOpenEnd } from '../chat-completions/chat-prompt.js';
import { commonFields, TranslatedMessages } from '../chat-completions/translated-chat.js';
import type { ApiContext } from '../../context.js';
import { invalid, notSupported, stated } from '../../errors.js';
import { thoughtTokens } from '../../params/thoughts.js';
import { toolSchema } from '../../params/value-limits.js';
import type { ChatBody, Tool, Translation } from '../chat-completions/chat-body.js';
import type { ContentBlock, CountTokensBody, InputMessage, MessagesBody, MessagesTool } from './messages-body.js';

type Role = InputMessage['role'];

/** The texts of blocks that may only hold text. @throws ApiError for another block */
function textsOf(content: ContentBlock['content'], place: string): readonly string[] {
  if (content === undefined) return [];
  if (typeof content === 'string') return [content];
  return content.map(({ type, text }, index) => {
    if (type !== 'text') throw notSupported(`${place}[${index}].type`, type, 'the model reads text only');
    return stated(text, `${place}[${index}].text`);
  });
}

/** Adds the blocks of one message in order. Texts that follow each other are one text. */
class MessageReader {
  readonly #texts: string[] = [];
  /** Texts before a result. A chat has results directly behind their calls, so these texts follow the results. */
  readonly #early: string[] = [];

  constructor(
    readonly messages: TranslatedMessages,
    readonly role: Role,
  ) {}

  add(block: ContentBlock, place: string): void {
    const { type } = block;
    const of = <T extends keyof ContentBlock>(field: T) => stated<ContentBlock[T]>(block[field], `${place}.${field}`);
    const only = (role: Role): void => {
      if (this.role !== role) throw notSupported(`${place}.type`, type, `only ${role} messages have such blocks`);
    };
    switch (type) {
      case 'text':
        this.#texts.push(of('text'));
        return;
      case 'tool_use':
        only('assistant');
        this.end();
        this.messages.call(of('id'), of('name'), JSON.stringify(of('input')), place);
        return;
      case 'tool_result':
        only('user');
        this.#endText();
        this.messages.result(of('tool_use_id'), resultOf(block, `${place}.content`), place);
        return;
      case 'thinking':
        only('assistant');
        this.messages.thoughts(of('thinking'));
        return;
      case 'redacted_thinking':
        // A client returns the thoughts of other models.
        only('assistant');
        return;
      default:
        throw notSupported(`${place}.type`, type, 'the model reads text, tool_use and tool_result');
    }
  }

  /** Ends the message, or its text before a call. */
  end(): void {
    this.#endText();
    if (this.#early.length > 0) this.messages.say(this.role, this.#early.splice(0).join('\n\n'));
  }

  #endText(): void {
    if (this.#texts.length > 0) this.#early.push(this.#texts.splice(0).join(''));
  }
}

function resultOf({ content, is_error: isError }: ContentBlock, place: string): string {
  const text = textsOf(content, place).join('');
  return isError === true ? `Error: ${text}` : text;
}

/** @throws ApiError unsupported_parameter for a block of another type, invalid_value for a missing field */
function chatMessagesOf({ system, messages }: PromptBody): TranslatedMessages {
  const translated = new TranslatedMessages('messages', 'tool_use_id');
  const rules = textsOf(system, 'system').join('\n\n');
  if (rules !== '') translated.say('system', rules);
  messages.forEach(({ role, content }, index) => {
    if (typeof content === 'string') {
      translated.say(role, content);
      return;
    }
    const reader = new MessageReader(translated, role);
    content.forEach((block, at) => {
      reader.add(block, `messages[${index}].content[${at}]`);
    });
    reader.end();
  });
  if (translated.messages.length === 0) throw invalid('messages', 'must have content, got none');
  return translated;
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
function toolFieldsOf({ tools = [], tool_choice: choice }: PromptBody) {
  const isNeeded = choice?.type === 'any' || choice?.type === 'tool';
  if (tools.length === 0 && !isNeeded) return {};
  const isSingle = choice !== undefined && choice.type !== 'none' && choice.disable_parallel_tool_use === true;
  const asked = (): ChatBody['tool_choice'] => {
    if (choice?.type === 'tool') return { type: 'function', function: { name: choice.name } };
    return choice && ANY[choice.type];
  };
  return {
    tools: tools.map(toolOf),
    ...(choice !== undefined && { tool_choice: asked() }),
    ...(isSingle && { parallel_tool_calls: false }),
  };
}

/**
 * Anthropic's thinking as fields of a chat. Its models think only if a request asks for it, and its clients expect no
 * other block in front of the text.
 */
function thoughtsOf(
  model: ApiContext['model'] | null,
  { thinking }: Pick<MessagesBody, 'thinking'>,
): Pick<ChatBody, 'reasoning_effort' | 'thinking_token_budget'> {
  const isAsked = thinking !== undefined && ['enabled', 'adaptive'].includes(thinking.type);
  if (model === null) return isAsked ? { reasoning_effort: 'medium' } : {};
  const { chat, tokenizer } = model;
  if (chat === null || !hasThoughts(chat)) return {};
  if (!isAsked) return { reasoning_effort: 'none' };
  const most = thinking.budget_tokens;
  const isBound = most !== undefined && chat.thoughts !== null && thoughtTokens(chat.thoughts, tokenizer) !== null;
  return { reasoning_effort: 'medium', ...(isBound && { thinking_token_budget: most }) };
}

type PromptBody = CountTokensBody & Pick<Partial<MessagesBody>, 'stop_sequences' | 'output_config'>;

/**
 * @param model null: it is elsewhere
 * @throws ApiError invalid_value or unsupported_parameter for blocks and tools that a chat does not have
 */
export function translate(model: ApiContext['model'] | null, body: PromptBody): Translation {
  const { messages, names } = chatMessagesOf(body);
  const { stop_sequences: stop, output_config: output, tools = [] } = body;
  return {
    body: {
      ...commonFields(body),
      messages: withOpenEnd(messages),
      ...toolFieldsOf(body),
      ...thoughtsOf(model, body),
      ...(stop && { stop }),
      ...(output?.format && {
        response_format: { type: 'json_schema', json_schema: { schema: output.format.schema } },
      }),
    },
    names: [
      ...names,
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
