/** The parts around the messages of a chat whose prompt is only counted. */
import type { ApiContext } from '../context.js';
import type { ChatMessageBody } from '../schemas/chat.js';
import type { PromptFrame } from './chat.js';
import { promptEnding, type EndingFields } from './prompt-ending.js';
import { templateVariables, type VariableFields } from './template-variables.js';

interface CountedFields extends EndingFields, VariableFields {
  readonly add_special_tokens?: boolean;
}

/**
 * The frame that an answer's prompt would have, without a limit of its length: the count may exceed the context.
 * @param signal ends the wait of a client that disconnects
 * @throws ApiError for fields that contradict each other or the model
 */
export function countedFrame(
  { model }: ApiContext,
  messages: readonly ChatMessageBody[],
  fields: CountedFields,
  signal: AbortSignal,
): PromptFrame {
  return {
    ...promptEnding(messages, fields),
    variables: templateVariables(model.chat, fields),
    closesThoughts: fields.reasoning_effort === 'none',
    addSpecial: fields.add_special_tokens ?? false,
    most: Infinity,
    waitLimit: { signal, deadlineAt: null },
  };
}
