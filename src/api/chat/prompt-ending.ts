/**
 * The end of a chat's prompt: the start of an answer, nothing, or the last message, which the answer continues.
 *
 * Fields: vLLM's `add_generation_prompt` and `continue_final_message`, and Mistral's and DeepSeek's `prefix` of the last
 * message. A last assistant message without them is complete, as in OpenAI's API and in vLLM.
 */
import { ApiError } from '../errors.js';
import type { ChatMessageBody } from '../schemas/chat.js';

export interface PromptEnding {
  readonly addGenerationPrompt: boolean;
  /** The last message has no end. Absent: false. */
  readonly continuesLast?: boolean;
}

export interface EndingFields {
  readonly add_generation_prompt?: boolean;
  readonly continue_final_message?: boolean;
}

const wrong = (rule: string, param: string): ApiError => new ApiError('invalid_value', rule, param);

/** @throws ApiError invalid_value for a message that cannot be continued, and for contradicting fields */
export function promptEnding(messages: readonly ChatMessageBody[], fields: EndingFields): PromptEnding {
  const last = messages.length - 1;
  const other = messages.findIndex(
    ({ prefix, role }, index) => prefix === true && (index !== last || role !== 'assistant'),
  );
  if (other >= 0) {
    const place = `messages[${other}].prefix`;
    throw wrong(`${place} is only allowed in a last message of the role "assistant".`, place);
  }
  const continuesLast = fields.continue_final_message === true || messages[last]?.prefix === true;
  if (!continuesLast) return { addGenerationPrompt: fields.add_generation_prompt ?? true };
  if (fields.add_generation_prompt === true) {
    const rule = 'add_generation_prompt must be false or absent if the answer continues the last message';
    throw wrong(`${rule}, got true.`, 'add_generation_prompt');
  }
  if ((messages[last]?.tool_calls ?? []).length > 0) {
    const place = `messages[${last}].tool_calls`;
    throw wrong(`${place} must be absent: an answer cannot continue a message with calls.`, place);
  }
  return { addGenerationPrompt: false, continuesLast };
}

/** The messages with a last assistant message to continue, as in Anthropic's API. A message with calls is complete. */
export function withOpenEnd(messages: readonly ChatMessageBody[]): ChatMessageBody[] {
  return messages.map((each, index) =>
    index === messages.length - 1 && each.role === 'assistant' && (each.tool_calls ?? []).length === 0
      ? { ...each, prefix: true }
      : each,
  );
}
