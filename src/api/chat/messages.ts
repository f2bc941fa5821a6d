/**
 * A client's messages in the form that the chat template takes, by OpenAI's rules for roles. Must not know: templates.
 */
import { ApiError } from '../errors.js';
import type { ChatMessage } from '../../text/chat-template.js';
import type { ChatToolCall } from '../../text/tool-form.js';
import { isTooDeep, MAX_NESTING } from '../params/nesting.js';
import type { ChatMessageBody } from '../schemas/chat.js';
import type { ToolCall } from '../schemas/tools.js';
import { quoted } from '../../util/quoted.js';

const wrong = (rule: string, param: string): ApiError => new ApiError('invalid_value', rule, param);

/** The text of a message, whose content is a string or a list of parts. */
export function textOf({ content }: Pick<ChatMessageBody, 'content'>): string {
  return typeof content === 'string' ? content : (content ?? []).map(({ text }) => text).join('');
}

function argumentsOf(text: string, place: string): object {
  // Clients join the pieces of a call without arguments to an empty text.
  if (text.trim() === '') return {};
  let value: unknown = null;
  try {
    value = JSON.parse(text);
  } catch {
    // The check below reports this, and JSON that is not an object.
  }
  // The arguments are text within the body, so the body's own check has not seen their depth.
  if (isTooDeep(value)) throw wrong(`${place} must be nested at most ${MAX_NESTING} deep.`, place);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw wrong(`${place} must be a JSON object as text, got ${quoted(text)}.`, place);
}

function callsOf(calls: readonly ToolCall[], place: string): ChatToolCall[] {
  return calls.map(({ id, function: { name, arguments: text } }, index) => ({
    id,
    type: 'function',
    function: { name, arguments: argumentsOf(text, `${place}[${index}].function.arguments`) },
  }));
}

/** @throws ApiError invalid_value for fields that the message's role does not have, and for results without a call */
export function chatMessages(bodies: readonly ChatMessageBody[]): ChatMessage[] {
  /** Ids of the latest assistant calls, whose results may follow. */
  let open = new Set<string>();
  return bodies.map((body, index) => {
    const place = `messages[${index}]`;
    const { role, tool_calls: calls = [], tool_call_id: callId, reasoning_content: reasoning } = body;
    if (calls.length > 0 && role !== 'assistant') {
      throw wrong(`${place}.tool_calls is only allowed in an assistant message.`, `${place}.tool_calls`);
    }
    if (callId !== undefined && role !== 'tool') {
      throw wrong(`${place}.tool_call_id is only allowed in a tool message.`, `${place}.tool_call_id`);
    }
    if (body.content === undefined && calls.length === 0) {
      throw wrong(`${place}.content is required.`, `${place}.content`);
    }
    if (role === 'tool') {
      if (callId === undefined) throw wrong(`${place}.tool_call_id is required.`, `${place}.tool_call_id`);
      if (!open.has(callId)) {
        const rule = `must be the id of a call in the preceding assistant message, got ${quoted(callId)}`;
        throw wrong(`${place}.tool_call_id ${rule}.`, `${place}.tool_call_id`);
      }
      return { role, content: textOf(body), tool_call_id: callId };
    }
    open = new Set(calls.map(({ id }) => id));
    return {
      // Models are tuned with the role's older name.
      role: role === 'developer' ? 'system' : role,
      content: textOf(body),
      ...(reasoning !== undefined && role === 'assistant' && { reasoning_content: reasoning }),
      ...(calls.length > 0 && { tool_calls: callsOf(calls, `${place}.tool_calls`) }),
    };
  });
}
