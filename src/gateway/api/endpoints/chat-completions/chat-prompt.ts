/**
 * The prompt of a chat: its messages by OpenAI's rules for roles, the variables of the chat template, and its end.
 *
 * The end is the start of an answer, nothing, or the last message, which the answer continues. A last assistant message
 * without vLLM's `continue_final_message` is complete, as in OpenAI's API and in vLLM.
 */
import {
  type ChatMessage,
  type ChatTemplate,
  ChatTemplateError,
  type TemplateVariables,
} from '../../../text/chat-template.js';
import type { ChatTool, ChatToolCall } from '../../../text/tool-form.js';
import { quoted } from '../../../../util/quoted.js';
import { type ApiContext, readyEngine } from '../../context.js';
import { ApiError, invalid, stated } from '../../errors.js';
import { type Encoding, encodePrompt, type Prompt, tooLong } from '../../generation/prompt.js';
import { withoutThoughts } from '../../params/thoughts.js';
import { rejectUnsupported, hasMoreValues, isTooDeep, MAX_NESTING } from '../../params/value-limits.js';
import { type ChatBody, ChatMessageBody, type ToolCall } from './chat-body.js';

/** The fields of a body that make the prompt. */
type PromptFields = Pick<
  ChatBody,
  | 'messages'
  | 'add_generation_prompt'
  | 'continue_final_message'
  | 'chat_template_kwargs'
  | 'reasoning_effort'
  | 'add_special_tokens'
>;

export interface PromptRules extends Pick<Encoding, 'waitLimit' | 'most'> {
  /** Functions that the model may call. */
  readonly tools: readonly ChatTool[];
  /** Absent: true. With false, thoughts that the template opens are closed, as without an effort. */
  readonly mayThink?: boolean;
}

/**
 * Renders the messages as the prompt form that the model was tuned with.
 * @throws ApiError for messages and fields that contradict each other or the model, and as encodePrompt
 */
export async function chatPrompt(
  context: ApiContext,
  body: PromptFields,
  { tools, mayThink = true, ...encoding }: PromptRules,
): Promise<Prompt> {
  const { messages, reasoning_effort: effort, add_special_tokens: addSpecial = false } = body;
  checkEnding(body);
  const template = context.model.chat;
  const variables = templateVariables(template, body);
  for (const [i, message] of messages.entries())
    rejectUnsupported(message, ChatMessageBody.properties, {}, `messages[${i}].`);
  if (template === null) {
    throw new ApiError('unsupported_parameter', 'This model has no chat template; use /v1/completions.', 'messages');
  }
  const { maxLength } = readyEngine(context);
  // Rendering blocks the event loop, so a prompt that cannot fit is rejected first.
  const content = messages.map((each) => (each.reasoning_content ?? '') + textOf(each)).join('');
  if (messages.length > maxLength || context.model.tokenizer.mustExceed(content, maxLength)) {
    throw tooLong(maxLength, `over ${maxLength}`, null, 'messages');
  }
  const plain = chatMessages(messages);
  // Templates write structured values one by one, which is slow. Nearly every value takes at least one token.
  const structured = [tools, plain.map(({ tool_calls: calls }) => calls ?? []), variables].flat(2);
  if (hasMoreValues(structured, maxLength)) throw tooLong(maxLength, `over ${maxLength}`, null, 'messages');
  try {
    const text =
      body.continue_final_message === true
        ? template.renderOpen(plain, tools, variables)
        : template.render(plain, body.add_generation_prompt ?? true, tools, variables);
    const isClosed = template.thoughts !== null && (effort === 'none' || !mayThink);
    const prompt = isClosed ? withoutThoughts(template.thoughts, text) : text;
    // The chat template writes the begin token itself.
    return await encodePrompt(context, prompt, { ...encoding, addSpecial, param: 'messages' });
  } catch (error) {
    if (!(error instanceof ChatTemplateError)) throw error;
    throw new ApiError('invalid_value', `The chat template rejects these messages: ${error.message}`, 'messages');
  }
}

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
  if (isTooDeep(value)) throw invalid(place, `must be nested at most ${MAX_NESTING} deep`);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw invalid(place, `must be a JSON object as text, got ${quoted(text)}`);
}

function callsOf(calls: readonly ToolCall[], place: string): ChatToolCall[] {
  return calls.map(({ id, function: { name, arguments: text } }, index) => ({
    id,
    type: 'function',
    function: { name, arguments: argumentsOf(text, `${place}[${index}].function.arguments`) },
  }));
}

/** @throws ApiError invalid_value for fields that the message's role does not have, and for results without a call */
function chatMessages(bodies: readonly ChatMessageBody[]): ChatMessage[] {
  /** Ids of the latest assistant calls, whose results may follow. */
  let open = new Set<string>();
  return bodies.map((body, index) => {
    const place = `messages[${index}]`;
    const { role, tool_calls: calls = [], tool_call_id: callId, reasoning_content: thoughts } = body;
    if (calls.length > 0 && role !== 'assistant') {
      throw invalid(`${place}.tool_calls`, 'is only allowed in an assistant message');
    }
    if (callId !== undefined && role !== 'tool') {
      throw invalid(`${place}.tool_call_id`, 'is only allowed in a tool message');
    }
    if (calls.length === 0) stated(body.content, `${place}.content`);
    if (role === 'tool') {
      const id = stated(callId, `${place}.tool_call_id`);
      if (!open.has(id)) {
        const rule = `must be the id of a call in the preceding assistant message, got ${quoted(id)}`;
        throw invalid(`${place}.tool_call_id`, rule);
      }
      return { role, content: textOf(body), tool_call_id: id };
    }
    open = new Set(calls.map(({ id }) => id));
    return {
      // Models are tuned with the role's older name.
      role: role === 'developer' ? 'system' : role,
      content: textOf(body),
      ...(thoughts !== undefined && role === 'assistant' && { reasoning_content: thoughts }),
      ...(calls.length > 0 && { tool_calls: callsOf(calls, `${place}.tool_calls`) }),
    };
  });
}

/** @throws ApiError invalid_value for a message that cannot be continued, and for contradicting fields */
function checkEnding({ messages, continue_final_message: continues, add_generation_prompt: adds }: PromptFields): void {
  if (continues !== true) return;
  if (adds === true) {
    const rule = 'must be false or absent if the answer continues the last message, got true';
    throw invalid('add_generation_prompt', rule);
  }
  if ((messages.at(-1)?.tool_calls ?? []).length > 0) {
    const rule = 'must be absent: an answer cannot continue a message with calls';
    throw invalid(`messages[${messages.length - 1}].tool_calls`, rule);
  }
}

/**
 * `chat_template_kwargs` and `reasoning_effort`: variables of the chat template, in vLLM's and OpenAI's names.
 * An effort has no effect on a model that does not think.
 */
function templateVariables(template: ChatTemplate | null, fields: PromptFields): TemplateVariables {
  const { chat_template_kwargs: given = {}, reasoning_effort: effort } = fields;
  if (effort === undefined || template === null) return given;
  if (template.mentions('reasoning_effort')) return { reasoning_effort: effort, ...given };
  return template.mentions('enable_thinking') ? { enable_thinking: effort !== 'none', ...given } : given;
}
