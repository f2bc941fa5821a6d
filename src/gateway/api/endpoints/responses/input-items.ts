/** The items of a conversation as the messages of a chat. Must not know: tools, sampling. */
import { TranslatedMessages } from '../chat-completions/translated-chat.js';
import { notSupported, required } from '../../errors.js';
import type { InputItem, ResponsesBody } from './responses-body.js';

const SERVED = 'the server takes message, function_call, function_call_output and reasoning';

/** @throws ApiError for a part that is not text */
function textOf(content: InputItem['content'], place: string): string {
  if (content === undefined) throw required(place);
  if (typeof content === 'string') return content;
  return content
    .map(({ type, text, refusal }, index) => {
      const part = `${place}[${index}]`;
      const isText = ['input_text', 'output_text', 'text'].includes(type);
      if (!isText && type !== 'refusal') throw notSupported(`${part}.type`, type, 'the model reads text only');
      const said = isText ? text : refusal;
      if (said === undefined) throw required(`${part}.${isText ? 'text' : 'refusal'}`);
      return said;
    })
    .join('');
}

/** The thoughts of an item, whose content may be encrypted by another server: then its summary. */
function thoughtsOf({ content, summary = [] }: InputItem): string {
  const parts = typeof content === 'string' ? [{ text: content }] : (content ?? []);
  return (parts.length > 0 ? parts : summary).map(({ text = '' }) => text).join('');
}

function addItem(messages: TranslatedMessages, item: InputItem, place: string): void {
  const { type = 'message', role, call_id: callId, name } = item;
  switch (type) {
    case 'message':
      if (role === undefined) throw required(`${place}.role`);
      messages.say(role === 'developer' ? 'system' : role, textOf(item.content, `${place}.content`));
      return;
    case 'function_call':
      if (callId === undefined) throw required(`${place}.call_id`);
      if (name === undefined) throw required(`${place}.name`);
      messages.call(callId, name, item.arguments ?? '', place);
      return;
    case 'function_call_output':
      if (callId === undefined) throw required(`${place}.call_id`);
      messages.result(callId, textOf(item.output, `${place}.output`), place);
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

/** @throws ApiError unsupported_parameter for an item or part of another type, invalid_value for a missing field */
export function inputMessages({
  input,
  instructions,
}: Pick<ResponsesBody, 'input' | 'instructions'>): TranslatedMessages {
  const messages = new TranslatedMessages('input', 'call_id');
  if (instructions !== undefined) messages.say('system', instructions);
  if (typeof input === 'string') messages.say('user', input);
  else
    input.forEach((item, index) => {
      addItem(messages, item, `input[${index}]`);
    });
  return messages;
}
