/** POST /v1/messages: a chat in the form of Anthropic's messages, whole or as named events. */
import type { Answer } from '../generation/answer.js';
import type { Endpoint, Formatter, SendEvent } from '../generation/serve.js';
import type { ApiRequest } from '../context.js';
import type { MessagesBody } from '../schemas/messages.js';
import { Blocks, type Emit } from './blocks.js';
import { messagesError } from './errors.js';
import { endOf, ID_PREFIX, messageOf, usageOf } from './message.js';
import { plan } from './plan.js';

/** Most characters of a user's name in the log. Claude Code's names are longer than OpenAI's limit. */
const MAX_USER = 256;

function messageFormatter({ id, body }: ApiRequest<MessagesBody>, answer: Answer, send?: SendEvent): Formatter {
  const emit: Emit = (type, fields = {}) => send?.({ type, ...fields }, type);
  return {
    async format() {
      const blocks = new Blocks(emit);
      let isBegun = false;
      for await (const piece of answer) {
        // The stream begins with the first token, so that a rejection is a plain error.
        if (!isBegun) emit('message_start', { message: messageOf(answer, []) });
        isBegun = true;
        if (!('text' in piece)) blocks.end();
        else if (piece.thoughts !== '') blocks.thoughts(piece.thoughts);
        else if (piece.call === null) blocks.text(piece.text);
        else blocks.call(piece.call);
      }
      const end = endOf(answer, body);
      emit('message_delta', { delta: end, usage: usageOf(answer), sortie: answer.report() });
      emit('message_stop');
      return messageOf(answer, blocks.content, end);
    },
    failed(error) {
      send?.(messagesError(error, id), 'error');
    },
  };
}

export const messages: Endpoint<MessagesBody> = {
  idPrefix: ID_PREFIX,
  userOf: ({ metadata }) => metadata?.user_id?.slice(0, MAX_USER),
  plan,
  formatter: (_context, request, answer, send) => messageFormatter(request, answer, send),
  terminator: null,
};
