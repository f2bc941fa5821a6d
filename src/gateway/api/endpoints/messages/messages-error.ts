/** Errors in the form of Anthropic's API. */
import { Type } from '../../../../util/schema.js';
import type { ApiError } from '../../errors.js';

/** The form of an error, which is also the data of an error event. */
export const MessagesErrorAnswer = Type.Object({
  type: Type.Literal('error'),
  error: Type.Object({ type: Type.String(), message: Type.String() }, { additionalProperties: true }),
  request_id: Type.String(),
});

/** Anthropic's name for the kind of an error with this status. */
function typeOf(status: number): string {
  switch (status) {
    case 401:
      return 'authentication_error';
    case 404:
      return 'not_found_error';
    case 413:
      return 'request_too_large';
    case 429:
      return 'rate_limit_error';
    case 502:
    case 503:
      // A part of the server restarts, or it has no room. Anthropic's clients retry both.
      return 'overloaded_error';
    default:
      return status >= 500 ? 'api_error' : 'invalid_request_error';
  }
}

/** The body of an error, which is also the data of an error event. Sortie's fields come after Anthropic's two. */
export function messagesError(error: ApiError, requestId: string): object {
  const { message, param, code, status, extra } = error;
  return { type: 'error', error: { type: typeOf(status), message, param, code, ...extra }, request_id: requestId };
}

/** An error of an upstream in this form. A text that is not OpenAI's JSON is cut. */
export function upstreamError(status: number, text: string, request_id: string): string {
  let message: unknown;
  try {
    message = (JSON.parse(text) as { error?: { message?: unknown } | null }).error?.message;
  } catch {
    // Proxies answer in HTML.
  }
  if (typeof message !== 'string') message = `The upstream model rejected the request: ${text.slice(0, 200)}`;
  return JSON.stringify({ type: 'error', error: { type: typeOf(status), message }, request_id });
}
