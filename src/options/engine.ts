/** The options of the engine: capacity, depth and length of answers, audits. */
import {
  auditMode,
  exitLayer,
  integer,
  oneOf,
  optionalLayer,
  optionalShare,
  optionalTokens,
  prefixReuse,
} from './kinds.js';
import { type Group, spec } from './spec.js';

export const capacity = {
  maxRunning: spec('max-running', 'N', integer(1, 1024, 'sequences'), 32, 'most sequences that run at a time'),
  maxQueue: spec(
    'max-queue',
    'N',
    integer(0, 1_000_000, 'sequences'),
    256,
    'most sequences of a client that wait, 0 for none; one more gets a 429',
  ),
  prefillChunk: spec(
    'prefill-chunk',
    'TOKENS',
    integer(1, 8192, 'tokens'),
    128,
    'most prompt tokens between two decode steps; more: faster prompts, longer gaps',
  ),
  prefixReuse: spec(
    'prefix-reuse',
    'off|key|all',
    prefixReuse,
    'key',
    'reuses the KV cache of equal prompt beginnings: within each API key, or across all keys',
  ),
  speculate: spec(
    'speculate',
    'ANSWERS',
    oneOf('off', 'unseeded', 'all'),
    'unseeded',
    'answers that use drafts while they decode alone; unseeded: sampled without a seed',
  ),
} as const satisfies Group;

export const depthAndLength = {
  defaultExit: spec(
    'default-exit',
    'LAYER',
    exitLayer,
    null,
    'exit of requests that state neither a budget nor a depth',
    'deepest',
  ),
  thinkingExit: spec(
    'thinking-exit',
    'LAYER',
    optionalLayer,
    null,
    'deepest exit of the thoughts of a model that thinks; the answer behind them goes deeper',
    "the answer's",
  ),
  minExit: spec(
    'min-exit',
    'LAYER',
    optionalLayer,
    null,
    "shallowest exit of a request; a key's own bound wins",
    'the shallowest',
  ),
  maxExit: spec(
    'max-exit',
    'LAYER',
    optionalLayer,
    null,
    "deepest exit of a request; a key's own bound wins",
    'the deepest',
  ),
  minQuality: spec(
    'min-quality',
    'SHARE',
    optionalShare,
    null,
    'least estimated agreement with full depth of a request that states none',
    'none',
  ),
  maxTokensDefault: spec(
    'max-tokens-default',
    'TOKENS',
    optionalTokens,
    null,
    'most tokens of a chat answer whose request has no max_tokens; a bound ends the loops of a small model',
    "the model's, or to the end of the context",
  ),
  maxChoices: spec(
    'max-choices',
    'N',
    integer(1, 4096, 'answers'),
    64,
    'most answers to one request (prompts times n); more get a 400',
  ),
} as const satisfies Group;

export const audits = {
  audit: spec(
    'audit',
    'off|idle|SHARE',
    auditMode,
    'idle',
    "compares answers of early exits with full depth while no request runs, or with this share of the engine's time",
  ),
} as const satisfies Group;
