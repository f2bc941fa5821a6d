/** POST /v1/responses: a chat in the form of OpenAI's responses, whole or as named events. The server keeps none. */
import type { ApiContext, ApiRequest } from '../context.js';
import type { Answer } from '../generation/answer.js';
import type { Endpoint, Formatter, SendEvent } from '../generation/serve.js';
import { chatLogprobs } from '../generation/logprobs.js';
import type { OutputItem, ResponsesBody } from '../schemas/responses.js';
import { withoutIgnored } from './ignored.js';
import { type Emit, Output } from './output.js';
import { plan } from './plan.js';
import { ID_PREFIX, responseOf } from './response.js';

function responseFormatter(
  context: ApiContext,
  request: ApiRequest<ResponsesBody>,
  answer: Answer,
  send?: SendEvent,
): Formatter {
  const { tokenizer } = context.model;
  const body = withoutIgnored(context, request.body);
  let number = 0;
  const emit: Emit = (type, fields) => send?.({ type, sequence_number: number++, ...fields }, type);
  const output = new Output(answer.id, emit);
  const isScored = answer.plan.logprobs !== null;
  let isBegun = false;
  /** Begins the stream with the first token, so that a rejection is a plain error. */
  const begin = (): void => {
    if (isBegun) return;
    isBegun = true;
    const response = responseOf(body, answer, { status: 'in_progress', output: [] });
    emit('response.created', { response });
    emit('response.in_progress', { response });
  };
  return {
    async format() {
      let status: 'completed' | 'incomplete' = 'completed';
      for await (const piece of answer) {
        begin();
        if ('finishReason' in piece) {
          if (piece.finishReason === 'length') status = 'incomplete';
          output.end(status);
        } else if (piece.thoughts !== '') output.thoughts(piece.thoughts);
        else if (piece.call !== null) output.call(piece.call);
        else output.text(piece.text, isScored ? chatLogprobs(tokenizer, piece.tokens) : []);
      }
      const response = responseOf(body, answer, { status, output: output.items });
      emit(`response.${status}`, { response: { ...response, sortie: answer.report() } });
      return response;
    },
    failed(error) {
      // OpenAI documents the first form, and its server and Open Responses have the second one; clients read either.
      const { code, message, param } = error;
      emit('error', { code, message, param, ...error.body() });
      const items = output.items.map((item): OutputItem =>
        item.status === 'in_progress' ? { ...item, status: 'incomplete' } : item,
      );
      emit('response.failed', { response: responseOf(body, answer, { status: 'failed', output: items, error }) });
    },
  };
}

export const responses: Endpoint<ResponsesBody> = {
  idPrefix: ID_PREFIX,
  userOf: ({ user }) => user,
  plan,
  formatter: responseFormatter,
  // OpenAI's streams end with their last event. Open Responses adds a [DONE], which its clients can do without.
  terminator: null,
};
