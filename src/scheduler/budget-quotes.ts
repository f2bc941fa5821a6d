/**
 * The budgets that rejections named. For a while each counts as a promise, and a retry takes it: other arrivals and a
 * slower machine do not make the number false.
 *
 * A tenant reserves no more than its last few, and the oldest ones go first. An unused one holds time for a second.
 */
import { at } from '../cost/model.js';
import type { Policy } from './policy.js';
import type { RequestView } from './types.js';

interface Reservation {
  /** The choices of the rejected request, promised with the named budget. */
  readonly requests: readonly RequestView[];
  readonly totalMs: number;
  /** A retry arrives until then. */
  readonly until: number;
  /** Ids of the retry. A step may decide them twice. */
  readonly takenBy: ReadonlySet<string> | null;
}

export class Reservations {
  #all: readonly Reservation[] = [];

  constructor(private readonly policy: Pick<Policy, 'reservedMs' | 'reservedByTenant' | 'mostReserved'>) {}

  /** Reserves the named budget for the choices of a rejected request. */
  add(rejected: readonly RequestView[], totalMs: number, now: number): void {
    const { reservedMs, reservedByTenant, mostReserved } = this.policy;
    const budget = { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' } as const;
    const requests = rejected.map((each) => ({ ...each, budget, serviceClass: 'guaranteed' as const }));
    const own = this.#all.filter((each) => tenantOf(each) === rejected[0]?.tenant);
    const replaced = own.slice(0, Math.max(0, own.length + 1 - reservedByTenant));
    const others = this.#all.filter((each) => !replaced.includes(each));
    if (others.length < mostReserved)
      this.#all = [...others, { requests, totalMs, until: now + reservedMs, takenBy: null }];
  }

  /** Whether the choices of a request take a reservation. Reservations that have ended are dropped. */
  take(asked: readonly RequestView[]): boolean {
    const ids = new Set(asked.map(({ id }) => id));
    const found = this.#all.find(
      ({ takenBy, until, requests, totalMs }) =>
        (takenBy === null ? asked.every(({ arrivedAt }) => arrivedAt <= until) : isSame(takenBy, ids)) &&
        asked.length <= requests.length &&
        asked.every((each, i) => hasTime(each, totalMs) && isCovered(each, at(requests, i))),
    );
    this.#all = this.#all.map((each) => (each === found ? { ...each, takenBy: ids } : each));
    return found !== undefined;
  }

  /** The requests of all reservations that are open, as if their retries arrived at an instant. */
  at(now: number): readonly RequestView[] {
    this.#all = this.#all.filter(({ until }) => until >= now);
    return this.#all
      .filter(({ takenBy }) => takenBy === null)
      .flatMap(({ requests }) => requests.map((each) => ({ ...each, arrivedAt: now })));
  }
}

const tenantOf = ({ requests }: Reservation): string | undefined => requests[0]?.tenant;

const isSame = (a: ReadonlySet<string>, b: ReadonlySet<string>): boolean =>
  a.size === b.size && [...a].every((id) => b.has(id));

/** Whether a request states the named budget or a longer one, and no other. */
function hasTime({ budget }: RequestView, totalMs: number): boolean {
  return budget?.totalMs != null && budget.totalMs >= totalMs && budget.ttftMs === null && budget.tpotMs === null;
}

/** Whether a request asks for no more than a reserved one. */
function isCovered(asked: RequestView, reserved: RequestView): boolean {
  return (
    asked.tenant === reserved.tenant &&
    asked.promptLength <= reserved.promptLength &&
    asked.maxTokens <= reserved.maxTokens &&
    asked.minExit <= reserved.minExit &&
    asked.lands === reserved.lands &&
    asked.isExactLength === reserved.isExactLength
  );
}
