/** The options of the router: requests without a budget, planning, measured costs. */
import { fraction, integer, oneOf, onOff, optionalMs, text } from './kinds.js';
import { defaultCacheDir } from './paths.js';
import { type Group, spec } from './spec.js';

export const requestsWithoutBudget = {
  defaultBudget: spec(
    'default-budget',
    'MS',
    optionalMs,
    null,
    'total latency budget of requests that state none',
    'none',
  ),
  noBudgetShare: spec(
    'no-budget-share',
    'SHARE',
    fraction(0.01, 1, 'share'),
    0.1,
    'share of the machine that these requests get under any load',
  ),
} as const satisfies Group;

export const planning = {
  minRight: spec(
    'min-right',
    'SHARE',
    fraction(0, 1, 'share'),
    0.5,
    "least share of full depth's right answers of an exit that the router chooses; requests may name any exit",
  ),
  onMiss: spec(
    'on-miss',
    'ACTION',
    oneOf('land', 'continue', 'truncate', 'reject'),
    'land',
    'default of X-Budget-On-Miss; without a total budget land is continue',
  ),
  maxStall: spec(
    'max-stall',
    'MS',
    integer(1, 60_000, 'ms'),
    120,
    'longest stall of decoding sequences by the prompts of a step; nine times their own step where that is longer',
  ),
} as const satisfies Group;

export const measuredCosts = {
  cacheDir: spec(
    'cache-dir',
    'DIR',
    text,
    defaultCacheDir(process.env),
    'folder of measured step costs and of converted models',
    '$XDG_CACHE_HOME/sortie or ~/.cache/sortie',
  ),
  recalibrate: spec('recalibrate', 'on|off', onOff, false, 'measures step costs again although the cache has them'),
} as const satisfies Group;
