/** The rules that differ between OpenAI's and Anthropic's clients: the form of errors, the keep-alive, the id's header. */
import type { FastifyRequest } from 'fastify';
import type { ApiError } from '../api/errors.js';
import { messagesError } from '../api/messages/errors.js';

export interface Protocol {
  /** The body of an error response. */
  errorBody(error: ApiError, requestId: string): object;
  /** The bytes that keep a silent stream open. */
  readonly keepAlive: string;
  /** A second name of X-Request-Id, which the protocol's clients read; null for none. */
  readonly idHeader: string | null;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Absent: OpenAI's. */
    protocol?: Protocol;
  }
}

const openai: Protocol = { errorBody: (error) => error.body(), keepAlive: ': keep-alive\n\n', idHeader: null };

export const anthropic: Protocol = {
  errorBody: messagesError,
  keepAlive: 'event: ping\ndata: {"type":"ping"}\n\n',
  idHeader: 'request-id',
};

/** The protocol of the request's route. */
export function protocolOf({ routeOptions }: FastifyRequest): Protocol {
  return routeOptions.config.protocol ?? openai;
}
