/**
 * The operator's defaults for requests, and the depths that requests may use.
 *
 * Must not know: flags and key files (config.ts, http/keys.ts).
 */
import type { Budget, OnMiss } from '../../engine/protocol.js';

/** A budget of the operator; without an action on a miss, that of the policy holds. */
export type DefaultBudget = Omit<Budget, 'onMiss'> & { readonly onMiss: OnMiss | null };

export interface RequestPolicy {
  /** The budget of requests that state none. */
  readonly defaultBudget: DefaultBudget | null;
  /** The action on a miss of requests that state none; absent or null: `land`. */
  readonly onMiss?: OnMiss | null;
  /** Depth bounds of every request; null for the model's own bound. */
  readonly minExit: number | null;
  readonly maxExit: number | null;
  /** Least quality of a request that states none; absent or null: any. */
  readonly minQuality?: number | null;
  /** Most tokens of an answer; absent or null: no bound. */
  readonly maxTokens?: number | null;
  /** Least share of right answers of the exits that the router chooses among; absent: any. */
  readonly minRight?: number;
}

export const openPolicy: RequestPolicy = { defaultBudget: null, minExit: null, maxExit: null };

/** The policy of a key wins over the policy for all. */
export function policyOf(all: RequestPolicy, key: RequestPolicy): RequestPolicy {
  return {
    defaultBudget: key.defaultBudget ?? all.defaultBudget,
    onMiss: key.onMiss ?? all.onMiss ?? null,
    minExit: key.minExit ?? all.minExit,
    maxExit: key.maxExit ?? all.maxExit,
    minQuality: key.minQuality ?? all.minQuality ?? null,
    maxTokens: key.maxTokens ?? all.maxTokens ?? null,
    ...(all.minRight !== undefined && { minRight: all.minRight }),
  };
}
