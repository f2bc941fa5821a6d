/**
 * Plans a request of another protocol as a chat, and names its own parameters in errors.
 *
 * Must not know: the other protocols.
 */
import type { ApiContext, ApiRequest } from '../context.js';
import { ApiError } from '../errors.js';
import type { GenerationPlan } from '../generation/request.js';
import type { ChatBody } from '../schemas/chat.js';
import { chat } from './chat.js';

/** A body of another protocol as the body of a chat. */
export interface Translation {
  readonly body: ChatBody;
  /**
   * Parameters of the chat and the client's names for them. A name stands for its fields and items, too:
   * `messages[0]` for `messages[0].content`.
   */
  readonly names: Iterable<readonly [chat: string, client: string]>;
}

/** The client's name of a chat parameter, by the longest part of it that has a name. */
export function clientName(names: Translation['names'], param: string): string {
  const known = new Map(names);
  for (let head = param; head !== ''; head = head.replace(/(\.[^.[]*|\[\d+\]|^[^.[]*)$/, '')) {
    const name = known.get(head);
    if (name !== undefined) return name + param.slice(head.length);
  }
  return param;
}

function translated(error: ApiError, names: Translation['names']): ApiError {
  const { code, message, param, extra, retryAfterMs } = error;
  if (param === null) return error;
  const name = clientName(names, param);
  const said = message.startsWith(param) ? name + message.slice(param.length) : message;
  return new ApiError(code, said, name, extra, retryAfterMs);
}

/** Runs a part of the chat. @throws its ApiError with the client's parameter */
export async function withNames<T>(names: Translation['names'], run: () => Promise<T> | T): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw error instanceof ApiError ? translated(error, names) : error;
  }
}

/** @throws ApiError as a chat does, with the client's parameters */
export async function planAsChat(
  context: ApiContext,
  request: ApiRequest<unknown>,
  { body, names }: Translation,
): Promise<GenerationPlan> {
  const plan = await withNames(names, () => chat.plan(context, { ...request, body }));
  const { grammar, maxTokensParam } = plan;
  return {
    ...plan,
    maxTokensParam: clientName(names, maxTokensParam),
    grammar: grammar && { ...grammar, placeOf: (part) => clientName(names, grammar.placeOf(part)) },
  };
}
