/** The message object of an answer: its head, usage and the reason of its end. */
import type { Answer } from '../generation/answer.js';
import type { CallPart } from '../generation/call-reader.js';
import type { FinishReason } from '../generation/choice.js';
import type { AnswerBlock, MessagesAnswer, MessagesBody, MessagesUsage, StopReason } from '../schemas/messages.js';

/** The id of a message begins with it. */
export const ID_PREFIX = 'msg_';

/** The fields that no answer of this server fills. */
export const UNFILLED = { stop_details: null, container: null } as const;

/** Anthropic counts the tokens of a shared prefix apart from the other input. */
export function usageOf(answer: Answer): MessagesUsage {
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = answer.usage();
  const { cached_tokens: cached } = prompt_tokens_details;
  return {
    input_tokens: prompt_tokens - cached,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached,
    output_tokens: completion_tokens,
  };
}

function stopReason(answer: Answer, { max_tokens: asked }: MessagesBody, reason: FinishReason): StopReason {
  const [choice] = answer.choices;
  if (reason === 'tool_calls') return 'tool_use';
  if (reason === 'stop') return choice?.stopString == null ? 'end_turn' : 'stop_sequence';
  const [most = asked] = answer.plan.maxTokens;
  // An answer that its deadline cut has fewer tokens.
  const isAtContext = most < asked && choice?.completionTokens === most;
  return isAtContext ? 'model_context_window_exceeded' : 'max_tokens';
}

/** The end of an answer, as a whole message and the last delta of a stream state it. */
export function endOf(answer: Answer, body: MessagesBody, reason: FinishReason) {
  return {
    stop_reason: stopReason(answer, body, reason),
    stop_sequence: answer.choices[0]?.stopString ?? null,
    ...UNFILLED,
  };
}

/** @param end absent: the answer has only begun */
export function messageOf(
  answer: Answer,
  content: AnswerBlock[],
  end?: ReturnType<typeof endOf>,
): Omit<MessagesAnswer, 'sortie'> {
  return {
    id: ID_PREFIX + answer.id,
    type: 'message',
    role: 'assistant',
    model: answer.plan.modelName,
    content,
    ...(end ?? { stop_reason: null, stop_sequence: null, ...UNFILLED }),
    diagnostics: null,
    usage: usageOf(answer),
  };
}

/** A block that begins, without its text or input. */
export const textBlock = (text = ''): AnswerBlock => ({ type: 'text', text });

/** Thoughts that begin, or all of them. */
export const thinkingBlock = (thinking = ''): AnswerBlock => ({ type: 'thinking', thinking, signature: '' });

/** @param part the first part of a call */
export function toolUse({ id = '', name = '' }: CallPart, input: Record<string, unknown> = {}): AnswerBlock {
  // The prefix is Anthropic's. The id comes back in a tool_result.
  return { type: 'tool_use', id: id.replace(/^call_/, 'toolu_'), name, input, caller: { type: 'direct' } };
}
