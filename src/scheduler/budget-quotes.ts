/**
 * Budget quotes: the budgets that rejections named. For a while each counts as a promise, and a retry takes it: other
 * arrivals and a slower machine do not make the number false.
 *
 * A tenant holds no more than its last few, and the oldest ones go first. An unused one holds time for a second.
 */
import { at } from '../cost/model.js';
import type { Policy } from './policy.js';
import type { Sequence, Terms } from './sequence.js';
import { type Proposal, proposed } from './snapshot.js';

interface Quote {
  /** The choices of the rejected request, promised with the named budget. */
  readonly choices: readonly Proposal[];
  readonly totalMs: number;
  /** A retry arrives until then. */
  readonly until: number;
  /** The sequences of the retry. A step may decide them twice. */
  readonly takenBy: ReadonlySet<Sequence> | null;
}

export class BudgetQuotes {
  #all: readonly Quote[] = [];

  constructor(private readonly policy: Pick<Policy, 'reservedMs' | 'reservedByTenant' | 'mostReserved'>) {}

  /** Holds the named budget for the choices of a rejected request. */
  add(rejected: readonly Sequence[], totalMs: number, now: number): void {
    const { reservedMs, reservedByTenant, mostReserved } = this.policy;
    const budget = { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' } as const;
    const choices = rejected.map((each) => proposed(each, { budget, serviceClass: 'guaranteed' }));
    const own = this.#all.filter((each) => tenantOf(each) === rejected[0]?.tenant);
    const replaced = own.slice(0, Math.max(0, own.length + 1 - reservedByTenant));
    const others = this.#all.filter((each) => !replaced.includes(each));
    if (others.length < mostReserved)
      this.#all = [...others, { choices, totalMs, until: now + reservedMs, takenBy: null }];
  }

  /** Whether the choices of a request take a quote. Quotes that have ended are dropped. */
  take(asked: readonly Sequence[]): boolean {
    const retry = new Set(asked);
    const found = this.#all.find(
      ({ takenBy, until, choices, totalMs }) =>
        (takenBy === null ? asked.every(({ arrivedAt }) => arrivedAt <= until) : isSame(takenBy, retry)) &&
        asked.length <= choices.length &&
        asked.every((each, i) => hasTime(each, totalMs) && isCovered(each, at(choices, i).sequence)),
    );
    this.#all = this.#all.map((each) => (each === found ? { ...each, takenBy: retry } : each));
    return found !== undefined;
  }

  /** The requests of all open quotes, as if their retries arrived at an instant. */
  at(now: number): readonly Proposal[] {
    this.#all = this.#all.filter(({ until }) => until >= now);
    return this.#all
      .filter(({ takenBy }) => takenBy === null)
      .flatMap(({ choices }) =>
        choices.map(({ sequence, terms }) => ({ sequence, terms: { ...terms, arrivedAt: now } })),
      );
  }
}

const tenantOf = ({ choices }: Quote): string | undefined => choices[0]?.sequence.tenant;

const isSame = (a: ReadonlySet<Sequence>, b: ReadonlySet<Sequence>): boolean =>
  a.size === b.size && [...a].every((each) => b.has(each));

/** Whether a request states the named budget or a longer one, and no other. */
function hasTime({ budget }: Terms, totalMs: number): boolean {
  return budget?.totalMs != null && budget.totalMs >= totalMs && budget.ttftMs === null && budget.tpotMs === null;
}

/** Whether a request asks for no more than the quoted one. */
function isCovered(asked: Sequence, quoted: Sequence): boolean {
  return (
    asked.tenant === quoted.tenant &&
    asked.promptLength <= quoted.promptLength &&
    asked.maxTokens <= quoted.maxTokens &&
    asked.minExit <= quoted.minExit &&
    asked.lands === quoted.lands &&
    asked.isExactLength === quoted.isExactLength
  );
}
