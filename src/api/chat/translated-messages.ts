/** Collects the messages of a chat from another protocol, with the client's name of each part. */
import type { ChatMessageBody } from '../schemas/chat.js';
import type { ToolCall } from '../schemas/tools.js';

type Message = ChatMessageBody & { content?: string; tool_calls?: ToolCall[] };

/** The client's names of the fields of a message. */
interface FieldNames {
  /** The field that holds the id of a result's call. */
  readonly callId: string;
  /** The field that holds the text of a result. */
  readonly result: string;
}

export class TranslatedMessages {
  readonly messages: Message[] = [];
  readonly names: [chat: string, client: string][] = [];
  readonly #fields: FieldNames;
  /** Thoughts in front of the assistant's next message. */
  #thoughts = '';

  /** @param list the client's name of the list of messages */
  constructor(list: string, fields: FieldNames) {
    this.names.push(['messages', list]);
    this.#fields = fields;
  }

  /** Adds a text. Leading system texts become one message: many templates take no second one. */
  say(role: 'system' | 'user' | 'assistant', text: string, place: string): void {
    const [first] = this.messages;
    if (role === 'system' && first?.role === 'system' && this.messages.length === 1) {
      first.content = `${first.content ?? ''}\n\n${text}`;
      return;
    }
    this.#add({ role, content: text }, place);
  }

  /** Adds thoughts, which belong to the assistant's next message. */
  thoughts(text: string): void {
    this.#thoughts += text;
  }

  /** Adds a call to the last message if it is the assistant's, else to a new one. */
  call(id: string, name: string, text: string, place: string): void {
    if (this.messages.at(-1)?.role !== 'assistant') this.#add({ role: 'assistant' }, place);
    const message = this.messages.at(-1);
    if (message === undefined) return;
    const calls = (message.tool_calls ??= []);
    this.names.push([`messages[${this.messages.length - 1}].tool_calls[${calls.length}].function`, place]);
    calls.push({ id, type: 'function', function: { name, arguments: text } });
  }

  /** Adds the result of a call. */
  result(callId: string, text: string, place: string): void {
    const { callId: id, result } = this.#fields;
    const index = this.#add({ role: 'tool', content: text, tool_call_id: callId }, place);
    this.names.push(
      [`messages[${index}].tool_call_id`, `${place}.${id}`],
      [`messages[${index}].content`, `${place}.${result}`],
    );
  }

  #add(message: Message, place: string): number {
    const isThought = this.#thoughts !== '' && message.role === 'assistant';
    const index = this.messages.push(isThought ? { ...message, reasoning_content: this.#thoughts } : message) - 1;
    this.#thoughts = '';
    this.names.push([`messages[${index}]`, place]);
    return index;
  }
}
