/**
 * The least total budget whose promise would hold, for a request that is rejected.
 *
 * A forecast tells when the promised tokens would be there. So a search goes to that time, tries it, and goes on from
 * what the trial tells: few forecasts, where a bisection takes dozens. Forecasts run on the thread of the engine's
 * steps. So a step has a budget of them, in requests that are forecast: the same on the engine and in a simulation.
 *
 * Must not know: sequences, clocks.
 */
import type { Policy } from './policy.js';
import type { Trial } from './trial.js';

/** `none`: no budget would hold. `unsought`: the step has no planning time for a search. */
export type LeastBudget = number | 'none' | 'unsought';

type Tunables = Pick<Policy, 'longestBudgetMs' | 'leastPrecision' | 'leastTrials' | 'retryRoom'>;

/** Times of a request that is rejected, in ms. */
export interface Waits {
  /** From its arrival to the present, with its time outside of the engine. */
  readonly waitedMs: number;
  /** From the rejection until a retry is decided. */
  readonly retryMs: number;
}

/**
 * A longer budget makes the time easier to keep, and the memory harder: an answer that lands takes the positions that
 * its budget has time for. So a budget that lacks memory is an upper bound, as one that holds is.
 * @param attempt tries a total budget in ms, from arrival; null where the planning time of the step is used up
 * @returns whole milliseconds, with room for a retry where memory allows
 */
export function leastBudget(
  { waitedMs, retryMs }: Waits,
  policy: Tunables,
  attempt: (totalMs: number) => Trial | null,
): LeastBudget {
  const { longestBudgetMs, leastPrecision, leastTrials, retryRoom } = policy;
  const exact = (readyMs: number): number => Math.ceil(waitedMs + readyMs);
  const roomy = (readyMs: number): number => Math.ceil((waitedMs + readyMs) * (1 + retryRoom) + retryMs);
  // The longest budget is tried for its time alone.
  const first = attempt(longestBudgetMs);
  if (first === null) return 'unsought';
  if (!first.isInTime || first.readyMs === Infinity) return 'none';
  let low = 0;
  let high = longestBudgetMs;
  let found: number | null = null;
  let totalMs = roomy(first.readyMs);
  for (let i = 1; i < leastTrials && totalMs < longestBudgetMs; i += 1) {
    const trial = attempt(totalMs);
    if (trial === null) return found ?? 'unsought';
    const { isInTime, hasMemory, readyMs } = trial;
    if (!isInTime) low = totalMs;
    else if (hasMemory) found = high = totalMs;
    else high = totalMs;
    const aim = isInTime && !hasMemory ? exact(readyMs) : roomy(readyMs);
    const isClose = found === high && (aim > high * (1 - leastPrecision) || high - low <= leastPrecision * high);
    if (isClose || high - low <= 1) break;
    const between = high === longestBudgetMs ? 2 * low : Math.ceil((low + high) / 2);
    totalMs = aim > low && aim < high ? aim : between;
  }
  return found ?? 'none';
}

/**
 * The planning time that the searches of a step have left, in requests that are forecast. A tenant may take half of
 * the rest, so that the rejections of one leave some for those of others.
 */
export class SearchTime {
  #now: number | null = null;
  #left = 0;
  readonly #byTenant = new Map<string, number>();

  constructor(private readonly policy: Pick<Policy, 'leastForecasts'>) {}

  /** Begins a step, or goes on with one. @param now start of the step */
  at(now: number): this {
    if (this.#now === now) return this;
    this.#now = now;
    this.#left = this.policy.leastForecasts;
    this.#byTenant.clear();
    return this;
  }

  /** Takes the time of a forecast, if it is left. @param requests that are forecast */
  take(tenant: string, requests: number): boolean {
    const own = this.#byTenant.get(tenant) ?? this.#left / 2;
    if (requests > own) return false;
    this.#byTenant.set(tenant, own - requests);
    this.#left -= requests;
    return true;
  }
}
