/**
 * The last rejections, so that equal ones share their decision and their number: a client that repeats a request makes
 * the engine plan once. A rejected deadline is an instant, and a number is a time from the decision on: an idle engine
 * needs as much for a request that comes later. Both hold until a request is admitted or ends.
 *
 * Must not know: how a budget is searched.
 */
import { at } from './cost/model.js';
import type { LeastBudget } from './least-budget.js';
import type { Policy } from './policy.js';
import type { Sequence } from './sequence.js';

interface Refusal {
  /** Instants of the decision, and of a deadline that is rejected. */
  readonly at: number;
  readonly dueAt: number;
  /** From the decision to the earliest deadline that is not rejected, ms. */
  readonly least: LeastBudget;
}

/** Most kinds of requests with a rejection; the oldest one is forgotten. */
const MOST_KINDS = 1024;

export class Refusals {
  /** By kind of request, the oldest first. */
  readonly #all = new Map<string, Refusal>();

  constructor(private readonly policy: Pick<Policy, 'refusalHoldMs'>) {}

  /** Forgets all: a request was admitted or ended, and changes what the next ones get. */
  clear(): void {
    this.#all.clear();
  }

  /** Whether an equal request with as much time left was rejected. @param choices of a request */
  covers(choices: readonly Sequence[], now: number): boolean {
    if (this.#all.size === 0) return false;
    const refusal = this.#of(kindOf(choices), now);
    return refusal !== undefined && dueAtOf(choices) <= refusal.dueAt;
  }

  /** The least total budget in ms, from the arrival of a rejected request. @param search finds it, if none is known */
  least(choices: readonly Sequence[], now: number, search: () => LeastBudget): LeastBudget {
    const waitedMs = now - at(choices, 0).arrivedAt;
    const kind = kindOf(choices);
    const known = this.#of(kind, now);
    const found = known === undefined ? search() : moved(known.least, waitedMs);
    const dueAt = Math.max(known?.dueAt ?? -Infinity, dueAtOf(choices));
    this.#all.set(kind, { at: known?.at ?? now, least: known?.least ?? moved(found, -waitedMs), dueAt });
    const [oldest] = this.#all.keys();
    if (this.#all.size > MOST_KINDS && oldest !== undefined) this.#all.delete(oldest);
    return found;
  }

  #of(kind: string, now: number): Refusal | undefined {
    const refusal = this.#all.get(kind);
    if (refusal === undefined || now - refusal.at < this.policy.refusalHoldMs) return refusal;
    this.#all.delete(kind);
    return undefined;
  }
}

const moved = (least: LeastBudget, ms: number): LeastBudget =>
  typeof least === 'number' ? Math.max(0, Math.ceil(least + ms)) : least;

/** Infinity without a total budget: no other request has as much time. */
function dueAtOf(choices: readonly Sequence[]): number {
  const { arrivedAt, budget } = at(choices, 0);
  return arrivedAt + (budget?.totalMs ?? Infinity);
}

/** The same for requests that a state serves alike. Their texts may differ. */
function kindOf(choices: readonly Sequence[]): string {
  const first = at(choices, 0);
  const { tenant, kind, promptLength, maxTokens, minExit, maxExit, lands, isExactLength, budget } = first;
  const { onMiss, ttftMs, tpotMs } = budget ?? {};
  const sizes = [choices.length, promptLength, maxTokens, minExit, maxExit, ...Array.from(first.frontiers)];
  return JSON.stringify([tenant, kind, lands, isExactLength, onMiss, ttftMs, tpotMs, ...sizes]);
}
