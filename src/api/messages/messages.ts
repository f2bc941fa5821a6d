/** POST /v1/messages: a chat in the form of Anthropic's messages. */
import type { CallPart } from '../generation/call-reader.js';
import type { Endpoint } from '../generation/endpoint.js';
import type { AnswerBlock, MessagesBody } from '../schemas/messages.js';
import { messageEvents } from './events.js';
import { endOf, ID_PREFIX, messageOf, textBlock, thinkingBlock, toolUse } from './message.js';
import { plan } from './plan.js';

/** The input of a call, or an empty one for a call that was cut. */
function inputOf(text: string): Record<string, unknown> {
  try {
    // The grammar of calls lets only objects through.
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

function callBlocks(parts: readonly CallPart[]): AnswerBlock[] {
  const begins = parts.filter(({ id }) => id !== undefined);
  return begins.map((begin) => {
    const text = parts.filter(({ index }) => index === begin.index).map((part) => part.arguments);
    return toolUse(begin, inputOf(text.join('')));
  });
}

export const messages: Endpoint<MessagesBody> = {
  idPrefix: ID_PREFIX,
  plan,
  whole(_context, { body }, answer, [choice]) {
    if (choice === undefined) throw new Error('an answer without a choice');
    const { text, reasoning, calls, finishReason } = choice;
    const thoughts = reasoning === '' ? [] : [thinkingBlock(reasoning)];
    const content = [...thoughts, ...(text === '' ? [] : [textBlock(text)]), ...callBlocks(calls)];
    return messageOf(answer, content, endOf(answer, body, finishReason));
  },
  events: messageEvents,
  terminator: null,
};
