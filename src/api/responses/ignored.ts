/** Settings that clients of OpenAI's responses send to every model, and that a model or this server does not have. */
import { hasThoughts } from '../chat/template-variables.js';
import type { ApiContext } from '../context.js';
import type { ResponsesBody } from '../schemas/responses.js';

/** Whether the request asks a model without thoughts to think. */
function isThoughtless({ model: { chat } }: ApiContext, { reasoning }: ResponsesBody): boolean {
  const effort = reasoning?.effort ?? 'none';
  return effort !== 'none' && chat !== null && !hasThoughts(chat);
}

/** A sentence for each setting of the request that has no effect. */
export function ignoredSettings(context: ApiContext, body: ResponsesBody): string[] {
  const { text: { verbosity = 'medium' } = {}, truncation } = body;
  return [
    isThoughtless(context, body) ? 'reasoning.effort is ignored: this model has no thoughts.' : [],
    verbosity === 'medium' ? [] : 'text.verbosity is ignored: this model has no such setting.',
    truncation === 'auto' ? 'truncation is ignored: input beyond the context is rejected.' : [],
  ].flat();
}

/** The request without the effort that has no effect. */
export function withoutIgnored(context: ApiContext, body: ResponsesBody): ResponsesBody {
  return isThoughtless(context, body) ? { ...body, reasoning: {} } : body;
}
