/**
 * Plans a request of another protocol as a chat, and names its own parameters in errors.
 *
 * Must not know: the other protocols.
 */
import type { ApiContext, ApiRequest } from '../../context.js';
import { ApiError } from '../../errors.js';
import { countingRules } from '../../generation/prompt.js';
import type { GenerationRequest } from '../../generation/read-request.js';
import type { ChatMessageBody, ToolCall, Translation } from './chat-body.js';
import { generationFields, type GenerationBody } from '../../schemas/shared.js';
import { readChat } from './chat-completions.js';
import { chatPrompt } from './chat-prompt.js';
import { planTools } from './tool-grammar.js';

/** The client's name of a chat parameter, by the longest part of it that has a name. */
function clientName(names: Translation['names'], param: string): string {
  const named = names.filter(([chat]) => param.startsWith(chat) && /^([.[]|$)/.test(param.slice(chat.length)));
  const [[chat, client] = ['', '']] = named.sort(([one], [other]) => other.length - one.length);
  return client + param.slice(chat.length);
}

function translated(error: ApiError, names: Translation['names']): ApiError {
  const { code, message, param, extra, retryAfterMs } = error;
  if (param === null) return error;
  const name = clientName(names, param);
  const said = message.startsWith(param) ? name + message.slice(param.length) : message;
  return new ApiError(code, said, name, extra, retryAfterMs);
}

/** Runs a part of the chat. @throws its ApiError with the client's parameter */
export async function withNames<T>(names: Translation['names'], run: () => Promise<T> | T): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw error instanceof ApiError ? translated(error, names) : error;
  }
}

/** @throws ApiError as a chat does, with the client's parameters */
export async function readAsChat(
  context: ApiContext,
  request: ApiRequest<unknown>,
  { body, names }: Translation,
): Promise<GenerationRequest> {
  const read = await withNames(names, () => readChat(context, { ...request, body }));
  const { grammar, quota } = read;
  return {
    ...read,
    quota: { ...quota, maxTokensParam: clientName(names, quota.maxTokensParam) },
    grammar: grammar && { ...grammar, placeOf: (part) => clientName(names, grammar.placeOf(part)) },
  };
}

/**
 * Counts the tokens of the prompt that the endpoint of the translation makes, the start of the answer included.
 * @throws ApiError as that endpoint, except that the count may exceed the context
 */
export async function countTranslated(
  context: ApiContext,
  { body, names }: Translation,
  signal: AbortSignal,
): Promise<number> {
  const prompt = await withNames(names, () => {
    const { tools } = planTools(body, null);
    return chatPrompt(context, body, { tools, ...countingRules(signal) });
  });
  return prompt.ids.length;
}

/** Fields of OpenAI's chunked answers, which another protocol does not have or spells differently. */
type Chunked = 'n' | 'stream_options' | 'response_format';
const CHUNKED = new Set<string>(['n', 'stream_options', 'response_format'] satisfies Chunked[]);

/** The generation fields that have one name and meaning in all protocols. */
export function commonFields(body: Omit<GenerationBody, Chunked>): Omit<GenerationBody, Chunked> {
  return Object.fromEntries(Object.entries(body).filter(([name]) => name in generationFields && !CHUNKED.has(name)));
}

type Message = ChatMessageBody & { content?: string; tool_calls?: ToolCall[] };

/**
 * Collects the messages of a chat from another protocol, with the client's names of the parts that a chat may reject.
 */
export class TranslatedMessages {
  readonly messages: Message[] = [];
  readonly names: [chat: string, client: string][];
  readonly #callId: string;
  /** Thoughts in front of the assistant's next message. */
  #thoughts = '';

  /**
   * @param list the client's name of the list of messages
   * @param callId the client's field that holds the id of a result's call
   */
  constructor(list: string, callId: string) {
    this.names = [['messages', list]];
    this.#callId = callId;
  }

  /** Adds a text. Leading system texts become one message: many templates take no second one. */
  say(role: 'system' | 'user' | 'assistant', text: string): void {
    const [first] = this.messages;
    if (role === 'system' && first?.role === 'system' && this.messages.length === 1)
      first.content = `${first.content ?? ''}\n\n${text}`;
    else this.#add({ role, content: text });
  }

  /** Adds thoughts, which belong to the assistant's next message. */
  thoughts(text: string): void {
    this.#thoughts += text;
  }

  /** Adds a call to the last message if it is the assistant's, else to a new one. */
  call(id: string, name: string, text: string, place: string): void {
    const last = this.messages.at(-1);
    const message = last?.role === 'assistant' ? last : this.#add({ role: 'assistant' });
    const calls = (message.tool_calls ??= []);
    this.names.push([`messages[${this.messages.length - 1}].tool_calls[${calls.length}].function`, place]);
    calls.push({ id, type: 'function', function: { name, arguments: text } });
  }

  /** Adds the result of a call. */
  result(callId: string, text: string, place: string): void {
    this.names.push([`messages[${this.messages.length}].tool_call_id`, `${place}.${this.#callId}`]);
    this.#add({ role: 'tool', content: text, tool_call_id: callId });
  }

  #add(message: Message): Message {
    if (this.#thoughts !== '' && message.role === 'assistant') message.reasoning_content = this.#thoughts;
    this.#thoughts = '';
    this.messages.push(message);
    return message;
  }
}
