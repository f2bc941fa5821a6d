/** POST /v1/responses: a chat in the form of OpenAI's responses. The server keeps none of them. */
import type { ApiContext } from '../context.js';
import type { Endpoint } from '../generation/endpoint.js';
import { chatLogprobs } from '../generation/logprobs.js';
import type { ResponsesBody } from '../schemas/responses.js';
import { responseEvents } from './events.js';
import { Output } from './output.js';
import { plan } from './plan.js';
import { ID_PREFIX, responseOf, statusOf } from './response.js';

export const responses: Endpoint<ResponsesBody> = {
  idPrefix: ID_PREFIX,
  plan,
  whole(context: ApiContext, { body }, answer, [choice]) {
    const output = new Output(answer.id);
    if (choice === undefined) throw new Error('an answer without a choice');
    const { text, reasoning, tokens, calls, finishReason } = choice;
    const logprobs = answer.plan.logprobs === null ? [] : chatLogprobs(context.model.tokenizer, tokens);
    if (reasoning !== '') output.reasoning(reasoning);
    if ((calls.length === 0 && reasoning === '') || text !== '') output.text(text, logprobs);
    for (const part of calls) output.call(part);
    output.end(statusOf(finishReason));
    return responseOf(body, answer, { status: statusOf(finishReason), output: output.items });
  },
  events: responseEvents,
  terminator: '[DONE]',
};
