/** The message object of an answer: its head, usage and the reason of its end. */
import type { Answer } from '../generation/answer.js';
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

function stopReason(answer: Answer, { max_tokens: asked }: MessagesBody): StopReason {
  const [choice] = answer.choices;
  if (choice?.finishReason === 'tool_calls') return 'tool_use';
  if (choice?.finishReason === 'stop') return choice.stopString === null ? 'end_turn' : 'stop_sequence';
  const [most = asked] = answer.plan.maxTokens;
  // An answer that its deadline cut has fewer tokens.
  const isAtContext = most < asked && choice?.completionTokens === most;
  return isAtContext ? 'model_context_window_exceeded' : 'max_tokens';
}

/** The end of an answer, as a whole message and the last delta of a stream state it. */
export function endOf(answer: Answer, body: MessagesBody) {
  return {
    stop_reason: stopReason(answer, body),
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
