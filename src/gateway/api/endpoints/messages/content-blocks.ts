/** Anthropic's messages and their blocks as the messages of a chat. Must not know: tools, sampling. */
import { TranslatedMessages } from '../chat-completions/translated-chat.js';
import { invalid, notSupported, required } from '../../errors.js';
import type { ContentBlock, CountTokensBody, InputMessage } from './messages-body.js';

type Role = InputMessage['role'];
type Blocks = string | readonly Pick<ContentBlock, 'type' | 'text'>[];

/** The texts of blocks that may only hold text. @throws ApiError for another block */
function textsOf(content: Blocks | undefined, place: string): readonly string[] {
  if (content === undefined) return [];
  if (typeof content === 'string') return [content];
  return content.map(({ type, text }, index) => {
    if (type !== 'text') throw notSupported(`${place}[${index}].type`, type, 'the model reads text only');
    if (text === undefined) throw required(`${place}[${index}].text`);
    return text;
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
    const { type, id, name, tool_use_id: callId, text } = block;
    const only = (role: Role): void => {
      if (this.role !== role) throw notSupported(`${place}.type`, type, `only ${role} messages have such blocks`);
    };
    switch (type) {
      case 'text':
        if (text === undefined) throw required(`${place}.text`);
        this.#texts.push(text);
        return;
      case 'tool_use':
        only('assistant');
        if (id === undefined) throw required(`${place}.id`);
        if (name === undefined) throw required(`${place}.name`);
        if (block.input === undefined) throw required(`${place}.input`);
        this.end();
        this.messages.call(id, name, JSON.stringify(block.input), place);
        return;
      case 'tool_result':
        only('user');
        if (callId === undefined) throw required(`${place}.tool_use_id`);
        this.#endText();
        this.messages.result(callId, resultOf(block, `${place}.content`), place);
        return;
      case 'thinking':
        only('assistant');
        if (block.thinking === undefined) throw required(`${place}.thinking`);
        this.messages.thoughts(block.thinking);
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
export function chatMessagesOf({ system, messages }: Pick<CountTokensBody, 'system' | 'messages'>): TranslatedMessages {
  const translated = new TranslatedMessages('messages', 'tool_use_id');
  const rules = textsOf(system, 'system').join('\n\n');
  if (rules !== '') translated.say('system', rules);
  messages.forEach(({ role, content }, index) => {
    const place = `messages[${index}]`;
    if (typeof content === 'string') {
      translated.say(role, content);
      return;
    }
    const reader = new MessageReader(translated, role);
    content.forEach((block, at) => {
      reader.add(block, `${place}.content[${at}]`);
    });
    reader.end();
  });
  if (translated.messages.length === 0) throw invalid('messages', 'must have content, got none');
  return translated;
}
