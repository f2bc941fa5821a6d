/**
 * What the operator decides for requests that leave it open, and the depths that they may use at all.
 *
 * Knows: budgets and exits. Must not know: flags and key files (config.ts, http/keys.ts).
 */
import type { Budget } from '../../engine/protocol.js';

export interface RequestPolicy {
  /** Of requests that state none. */
  readonly defaultBudget: Budget | null;
  /** Requests go no shallower and no deeper, whatever they ask for; null where the model is the bound. */
  readonly minExit: number | null;
  readonly maxExit: number | null;
}

export const openPolicy: RequestPolicy = { defaultBudget: null, minExit: null, maxExit: null };

/** What the key says wins over what holds for all. */
export function policyOf(all: RequestPolicy, key: RequestPolicy): RequestPolicy {
  return {
    defaultBudget: key.defaultBudget ?? all.defaultBudget,
    minExit: key.minExit ?? all.minExit,
    maxExit: key.maxExit ?? all.maxExit,
  };
}
