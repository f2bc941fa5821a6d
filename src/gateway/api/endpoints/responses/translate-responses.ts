/** The body of /v1/responses and of its count of tokens as the body of a chat. */
import { hasThoughts } from '../chat-completions/chat-prompt.js';
import { commonFields, TranslatedMessages } from '../chat-completions/translated-chat.js';
import type { FormAnswer } from '../../generation/serve.js';
import { invalid, notSupported, stated } from '../../errors.js';
import { type NeutralValues, rejectUnsupported, toolSchema } from '../../params/value-limits.js';
import type { ResponseFormat } from '../../schemas/shared.js';
import type { ChatBody, Tool, Translation } from '../chat-completions/chat-body.js';
import { type InputItem, ResponsesBody, type ResponseTool } from './responses-body.js';
import { quoted } from '../../../../util/quoted.js';

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
  n: [1],
};

/** @throws ApiError unsupported_parameter */
export function checkSupported(body: ResponsesBody): void {
  rejectUnsupported(body, ResponsesBody.properties, UNSUPPORTED);
}

/** Whether the request asks a model without thoughts to think. */
export function isThoughtless({ model: { chat } }: Pick<FormAnswer, 'model'>, { reasoning }: ResponsesBody): boolean {
  const effort = reasoning?.effort ?? 'none';
  return effort !== 'none' && chat !== null && !hasThoughts(chat);
}

/** The request without the effort that has no effect. */
export function withoutIgnored(context: Pick<FormAnswer, 'model'>, body: ResponsesBody): ResponsesBody {
  return isThoughtless(context, body) ? { ...body, reasoning: {} } : body;
}

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

/** The items of a conversation as the messages of a chat. */
function inputMessages({ input, instructions }: ResponsesBody): TranslatedMessages {
  const messages = new TranslatedMessages('input', 'call_id');
  if (instructions !== undefined) messages.say('system', instructions);
  if (typeof input === 'string') messages.say('user', input);
  else for (const [index, item] of input.entries()) addItem(messages, item, `input[${index}]`);
  return messages;
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

const LOGPROBS = 'message.output_text.logprobs';

function chatFormat({ text }: ResponsesBody): ResponseFormat | undefined {
  const format = text?.format;
  if (format?.type !== 'json_schema') return format;
  const { type, ...json_schema } = format;
  return { type, json_schema };
}

function logprobFields({ include = [], top_logprobs: top = 0 }: ResponsesBody) {
  return top > 0 || include.includes(LOGPROBS) ? { logprobs: true, top_logprobs: top } : {};
}

/** @throws ApiError invalid_value or unsupported_parameter for items, parts and tools that a chat does not have */
export function translate(body: ResponsesBody): Translation {
  const { messages, names } = inputMessages(body);
  const tools = responseTools(body);
  const format = chatFormat(body);
  const effort = body.reasoning?.effort;
  return {
    body: {
      ...commonFields(body),
      messages,
      ...tools.fields,
      ...(format && { response_format: format }),
      ...(body.max_output_tokens !== undefined && { max_tokens: body.max_output_tokens }),
      ...(effort !== undefined && { reasoning_effort: effort }),
      ...logprobFields(body),
    },
    names: [
      ...names,
      ...tools.names,
      ['max_tokens', 'max_output_tokens'],
      ['response_format', 'text.format'],
      ['response_format.json_schema', 'text.format'],
      ['logprobs', 'include'],
      ['reasoning_effort', 'reasoning.effort'],
    ],
  };
}
