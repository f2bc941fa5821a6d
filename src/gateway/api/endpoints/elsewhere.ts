/**
 * Endpoints whose requests to a model that runs elsewhere are translated to a chat, and its answers back.
 *
 * Must not know: connections, the local model.
 */
import type { ApiRequest, EventStream } from '../context.js';
import { notSupported } from '../errors.js';
import type { FormAnswer } from '../generation/form-answer.js';
import type { Form } from '../generation/serve.js';
import type { Translation } from './chat-completions/translated-chat.js';
import { checkSupported as checkMessages, messageForm } from './messages/messages.js';
import type { MessagesBody } from './messages/messages-body.js';
import { typeOf } from './messages/messages-error.js';
import { translateWith } from './messages/translate-messages.js';
import { responseForm } from './responses/responses.js';
import type { ResponsesBody } from './responses/responses-body.js';
import { checkSupported as checkResponses, translate as translateResponses } from './responses/translate-responses.js';

export interface Elsewhere {
  /**
   * @param body valid by the schema of the endpoint
   * @throws ApiError invalid_value or unsupported_parameter
   */
  translate(body: object, mostTokens: number | null): Translation;
  /** @param send sends one event of a stream; absent: the answer goes out whole */
  form(request: Pick<ApiRequest<object>, 'id' | 'body'>, answer: FormAnswer, send?: EventStream['send']): Form;
  /** The body of an error of the upstream. @param text as the upstream wrote it */
  errorBody(status: number, text: string, requestId: string): string;
}

const responses: Elsewhere = {
  translate(asked) {
    const body = asked as ResponsesBody;
    checkResponses(body);
    const translation = translateResponses(body);
    if (translation.body.logprobs === true) {
      throw notSupported('include', 'message.output_text.logprobs', 'an upstream model states them in chats only');
    }
    return translation;
  },
  form: ({ body }, answer, send) => responseForm(body as ResponsesBody, answer, () => [], send),
  // OpenAI's errors have one form.
  errorBody: (_status, text) => text,
};

const messages: Elsewhere = {
  translate(asked, mostTokens) {
    const body = asked as MessagesBody;
    checkMessages(body);
    // Clients must state a length, and can't know the bound of their key.
    const max_tokens = Math.min(body.max_tokens, mostTokens ?? Infinity);
    const thinks = body.thinking !== undefined && ['enabled', 'adaptive'].includes(body.thinking.type);
    const translation = translateWith(thinks ? { reasoning_effort: 'medium' } : {}, body);
    return { ...translation, body: { ...translation.body, max_tokens } };
  },
  form: ({ id, body }, answer, send) => messageForm({ id, body: body as MessagesBody }, answer, send),
  errorBody(status, text, request_id) {
    return JSON.stringify({ type: 'error', error: { type: typeOf(status), message: messageIn(text) }, request_id });
  },
};

/** The message of an error in OpenAI's form; a longer text is cut. */
function messageIn(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: { message?: unknown } | null };
    if (typeof error?.message === 'string') return error.message;
  } catch {
    // Proxies answer in HTML.
  }
  return `The upstream model rejected the request: ${text.slice(0, 200)}`;
}

/** By the path of the endpoint. */
export const ELSEWHERE: Readonly<Record<string, Elsewhere>> = { '/v1/responses': responses, '/v1/messages': messages };
