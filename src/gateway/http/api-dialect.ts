/**
 * The rules that differ between OpenAI's and Anthropic's clients: the form of errors, the keep-alive, the id's header.
 */
import type { FastifyRequest } from 'fastify';
import { messagesError } from '../api/endpoints/messages/messages.js';
import type { ApiError } from '../api/errors.js';

export interface ApiDialect {
  /** The body of an error response. */
  errorBody(error: ApiError, requestId: string): object;
  /** The bytes that keep a silent stream open. */
  readonly keepAlive: string;
  /** A second name of X-Request-Id, which the dialect's clients read; null for none. */
  readonly idHeader: string | null;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Absent: OpenAI's. */
    dialect?: ApiDialect;
  }
}

const openai: ApiDialect = { errorBody: (error) => error.body(), keepAlive: ': keep-alive\n\n', idHeader: null };

export const anthropic: ApiDialect = {
  errorBody: messagesError,
  keepAlive: 'event: ping\ndata: {"type":"ping"}\n\n',
  idHeader: 'request-id',
};

/** The dialect of the request's route. */
export function dialectOf({ routeOptions }: FastifyRequest): ApiDialect {
  return routeOptions.config.dialect ?? openai;
}
