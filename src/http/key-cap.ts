/**
 * The longest answer of an API key (`max_tokens` of the key file). It is the default of requests that state no length,
 * and the bound of the others.
 */
import type { ApiContext, Caller } from '../api/context.js';
import { ApiError } from '../api/errors.js';

/** Fields that state a length. */
const FIELDS = ['max_tokens', 'max_completion_tokens', 'max_output_tokens'] as const;

type Lengths = Readonly<Partial<Record<(typeof FIELDS)[number], number>>>;

export interface Capped<Body> {
  readonly api: ApiContext;
  readonly body: Body;
}

/**
 * @param mustState whether clients of the endpoint must state a length, and so can't know the bound: a longer answer
 * ends there
 * @throws ApiError invalid_value for a longer answer of another endpoint
 */
export function underCap<Body>(api: ApiContext, caller: Caller, body: Body, mustState: boolean): Capped<Body> {
  const cap = caller.policy.maxTokens ?? null;
  if (cap === null) return { api, body };
  const lengths: Lengths = body as Lengths;
  const longer = FIELDS.find((field) => (lengths[field] ?? 0) > cap);
  if (longer !== undefined && !mustState) {
    const message = `${longer} must be at most ${cap} with this API key, got ${lengths[longer]}.`;
    throw new ApiError('invalid_value', message, longer);
  }
  const { limits, model } = api;
  const usual = limits.maxTokensDefault ?? model.generation.maxTokens ?? Infinity;
  return {
    api: { ...api, limits: { ...limits, maxTokensDefault: Math.min(usual, cap) } },
    body: longer === undefined ? body : { ...body, [longer]: cap },
  };
}
