/** A caller's messages as the chat template takes them. Knows: OpenAI's rules for roles. Must not know: templates. */
import { ApiError } from '../errors.js';
import type { ChatMessage } from '../../text/chat-template.js';
import type { ChatToolCall } from '../../text/tool-form.js';
import { isTooDeep, MAX_NESTING } from '../params/nesting.js';
import type { ChatMessageBody } from '../schemas/chat.js';
import type { ToolCall } from '../schemas/tools.js';
import { quoted } from '../../util/quoted.js';

const wrong = (rule: string, param: string): ApiError => new ApiError('invalid_value', rule, param);

/** Text in either of its forms. */
export function textOf({ content }: Pick<ChatMessageBody, 'content'>): string {
  return typeof content === 'string' ? content : (content ?? []).map(({ text }) => text).join('');
}

function argumentsOf(text: string, place: string): object {
  // How clients put together a call without arguments from its pieces.
  if (text.trim() === '') return {};
  let value: unknown = null;
  try {
    value = JSON.parse(text);
  } catch {
    // Told below, with what is wrong as well.
  }
  // A text within the body: the body's own check has not seen into it.
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

/** @throws ApiError invalid_value for fields that a message's role does not have, and results of no call */
export function chatMessages(bodies: readonly ChatMessageBody[]): ChatMessage[] {
  /** Calls that the results which come now may be of. */
  let open = new Set<string>();
  return bodies.map((body, index) => {
    const place = `messages[${index}]`;
    const { role, tool_calls: calls = [], tool_call_id: callId } = body;
    if (calls.length > 0 && role !== 'assistant') {
      throw wrong(`${place}.tool_calls is only allowed in an assistant's message.`, `${place}.tool_calls`);
    }
    if (callId !== undefined && role !== 'tool') {
      throw wrong(`${place}.tool_call_id is only allowed in a tool's message.`, `${place}.tool_call_id`);
    }
    if (body.content === undefined && calls.length === 0) {
      throw wrong(`${place}.content is required.`, `${place}.content`);
    }
    if (role === 'tool') {
      if (callId === undefined) throw wrong(`${place}.tool_call_id is required.`, `${place}.tool_call_id`);
      if (!open.has(callId)) {
        const rule = `must be the id of a call in the assistant's message before, got ${quoted(callId)}`;
        throw wrong(`${place}.tool_call_id ${rule}.`, `${place}.tool_call_id`);
      }
      return { role, content: textOf(body), tool_call_id: callId };
    }
    open = new Set(calls.map(({ id }) => id));
    return {
      // Models are tuned with the older name.
      role: role === 'developer' ? 'system' : role,
      content: textOf(body),
      ...(calls.length > 0 && { tool_calls: callsOf(calls, `${place}.tool_calls`) }),
    };
  });
}
