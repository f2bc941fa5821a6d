/**
 * Requests that arrived since the last step. A step takes tens of milliseconds, in which a whole burst may arrive: all
 * of it is admitted together, so the plan of the first request includes the others.
 *
 * A decision takes an outlook of all present requests, on the thread of the engine's steps. So a step decides a bounded
 * number of requests, in turns of their tenants. A flood of one tenant waits for later steps, and requests of other
 * tenants don't wait with it. The bound counts requests in these outlooks, so the same arrivals give the same plans.
 *
 * Must not know: slots, costs.
 */
import { at } from './cost/model.js';
import type { Policy } from './policy.js';
import type { Sequence } from './sequence.js';

type Bounds = Pick<Policy, 'mostDecisions' | 'mostDryRuns' | 'leastTenants'>;

/** The requests that a step decides. */
export interface Turn {
  /** Decided together, in order of arrival. */
  readonly together: readonly Sequence[];
  /** Decided one after the other, since they change no plan. */
  readonly dryRuns: readonly Sequence[];
  /** Cancelled ones, which need no decision. */
  readonly cancelled: readonly Sequence[];
}

/** Choices of one request, which are decided as one. */
interface Group {
  /** Number of the arrival. */
  readonly place: number;
  readonly choices: Sequence[];
}

export class Arrivals {
  readonly #real = new Turns();
  readonly #dryRuns = new Turns();
  #count = 0;

  add(sequence: Sequence): void {
    this.#count += 1;
    (sequence.isDryRun ? this.#dryRuns : this.#real).add(sequence, this.#count);
  }

  get count(): number {
    return this.#real.count + this.#dryRuns.count;
  }

  /** Requests that will take a place in the queue. */
  get countReal(): number {
    return this.#real.count;
  }

  find(id: string): Sequence | undefined {
    return this.#real.find(id) ?? this.#dryRuns.find(id);
  }

  /**
   * Takes the requests that the step decides: one group of each of the first tenants, and more while few enough
   * count.
   * @param present requests that are in every outlook
   */
  take(present: number, { mostDecisions, mostDryRuns, leastTenants }: Bounds): Turn {
    const cancelled = [...this.#real.takeCancelled(), ...this.#dryRuns.takeCancelled()];
    const together = this.#real.take(present, mostDecisions, leastTenants);
    const dryRuns = this.#dryRuns.take(present, mostDryRuns, leastTenants, false);
    return { together, dryRuns, cancelled };
  }
}

/** Requests by tenant, whose turns go round. */
class Turns {
  /** By tenant, the next one first. */
  readonly #queues = new Map<string, Group[]>();
  count = 0;

  add(sequence: Sequence, place: number): void {
    const { tenant } = sequence;
    const queue = this.#queues.get(tenant) ?? [];
    this.#queues.set(tenant, queue);
    const last = queue.at(-1);
    if (last !== undefined && isSibling(at(last.choices, 0), sequence)) last.choices.push(sequence);
    else queue.push({ place, choices: [sequence] });
    this.count += 1;
  }

  find(id: string): Sequence | undefined {
    for (const queue of this.#queues.values())
      for (const { choices } of queue) for (const each of choices) if (each.id === id) return each;
    return undefined;
  }

  takeCancelled(): readonly Sequence[] {
    const isCancelled = ({ choices }: Group): boolean => choices.every(({ ending }) => ending !== null);
    const taken: Group[] = [];
    for (const [tenant, queue] of this.#queues) {
      if (!queue.some(isCancelled)) continue;
      taken.push(...queue.filter(isCancelled));
      this.#keep(
        tenant,
        queue.filter((group) => !isCancelled(group)),
      );
    }
    return this.#sequencesOf(taken);
  }

  /** @param areTogether each is in the outlooks of those behind it */
  take(present: number, most: number, leastTenants: number, areTogether = true): readonly Sequence[] {
    const taken: Group[] = [];
    const served = new Set<string>();
    let counted = 0;
    let others = present;
    for (;;) {
      const [next] = this.#queues;
      if (next === undefined) break;
      const [tenant, queue] = next;
      const [group, ...rest] = queue;
      if (group === undefined) break;
      // Without a budget there is nothing to decide: one outlook of all together has the predictions.
      if (!areTogether || at(group.choices, 0).hasBudget) counted += others + group.choices.length;
      const isOwed = !served.has(tenant) && served.size < leastTenants;
      if (counted > most && !isOwed) break;
      served.add(tenant);
      if (areTogether) others += group.choices.length;
      taken.push(group);
      this.#queues.delete(tenant);
      this.#keep(tenant, rest);
    }
    return this.#sequencesOf(taken);
  }

  #keep(tenant: string, queue: Group[]): void {
    if (queue.length > 0) this.#queues.set(tenant, queue);
    else this.#queues.delete(tenant);
  }

  #sequencesOf(groups: readonly Group[]): readonly Sequence[] {
    const sequences = [...groups].sort((a, b) => a.place - b.place).flatMap(({ choices }) => choices);
    this.count -= sequences.length;
    return sequences;
  }
}

/** Requests by themselves, and the choices of one that may be rejected together: a rejection of one rejects all. */
export function decidedTogether(arrived: readonly Sequence[]): readonly (readonly Sequence[])[] {
  const groups: Sequence[][] = [];
  for (const request of arrived) {
    const last = groups.at(-1);
    const [first] = last ?? [];
    if (first !== undefined && isSibling(first, request)) last?.push(request);
    else groups.push([request]);
  }
  return groups;
}

function isSibling(a: Sequence, b: Sequence): boolean {
  // The choices of one answer share their fields.
  if (a.isRefusable && a.request.depth === b.request.depth) return true;
  const mayReject = a.budget?.onMiss === 'reject' && b.budget?.onMiss === 'reject';
  const isSame = a.arrivedAt === b.arrivedAt && a.budget?.totalMs === b.budget?.totalMs && a.tenant === b.tenant;
  return mayReject && isSame;
}
