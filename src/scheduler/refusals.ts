/**
 * The rejections of a step, so that equal ones share their decision and their number: a client that repeats a request
 * makes the engine plan once.
 *
 * Must not know: how a budget is searched.
 */
import { at } from '../cost/model.js';
import type { LeastBudget } from './least-budget.js';
import type { Sequence } from './sequence.js';

/** Instants: a deadline that is rejected, and the earliest one that is not. */
interface Refusal {
  readonly dueAt: number;
  readonly least: LeastBudget;
}

export class Refusals {
  /** By kind of request. */
  readonly #all = new Map<string, Refusal>();

  /** Forgets all: a request was admitted, and changes what the next ones get. */
  clear(): void {
    this.#all.clear();
  }

  /** Whether an equal request with as much time left was rejected. @param choices of a request */
  covers(choices: readonly Sequence[]): boolean {
    const refusal = this.#all.get(kindOf(choices));
    return refusal !== undefined && dueAtOf(choices) <= refusal.dueAt;
  }

  /** The least total budget in ms, from the arrival of a rejected request. @param search finds it, if none is known */
  least(choices: readonly Sequence[], search: () => LeastBudget): LeastBudget {
    const { arrivedAt } = at(choices, 0);
    const kind = kindOf(choices);
    const known = this.#all.get(kind);
    const least = known?.least ?? moved(search(), arrivedAt);
    this.#all.set(kind, { least, dueAt: Math.max(known?.dueAt ?? -Infinity, dueAtOf(choices)) });
    return moved(least, -arrivedAt);
  }
}

const moved = (least: LeastBudget, ms: number): LeastBudget =>
  typeof least === 'number' ? Math.ceil(least + ms) : least;

/** Infinity without a total budget: no other request has as much time. */
function dueAtOf(choices: readonly Sequence[]): number {
  const { arrivedAt, budget } = at(choices, 0);
  return arrivedAt + (budget?.totalMs ?? Infinity);
}

/** The same for requests that a state serves alike. Their texts may differ. */
function kindOf(choices: readonly Sequence[]): string {
  const first = at(choices, 0);
  const { tenant, lengthKind, promptLength, maxTokens, minExit, maxExit, lands, isExactLength, budget } = first;
  const sizes = [choices.length, promptLength, maxTokens, minExit, maxExit, ...Array.from(first.frontiers)];
  return JSON.stringify([tenant, lengthKind, lands, isExactLength, budget?.ttftMs, budget?.tpotMs, ...sizes]);
}
