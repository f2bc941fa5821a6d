/**
 * Requests that arrived since the last step. A step takes tens of milliseconds, in which a whole burst may arrive: all
 * of it is admitted together, so the plan of the first request includes the others.
 *
 * A decision takes time on the thread of the engine's steps. So a step decides a bounded number of requests, in turns
 * of their tenants. A flood of one tenant waits for later steps, and requests of other tenants don't wait with it.
 *
 * Must not know: slots, costs.
 */
import type { Sequence } from './sequence.js';

export class Arrivals {
  /** By tenant, the next one first, in order of arrival. */
  readonly #queues = new Map<string, Sequence[]>();
  /** How many there are, and those of them that will take a place in the queue. */
  count = 0;
  queued = 0;

  add(sequence: Sequence): void {
    this.#count(sequence, 1);
    const queue = this.#queues.get(sequence.tenant);
    if (queue === undefined) this.#queues.set(sequence.tenant, [sequence]);
    else queue.push(sequence);
  }

  get all(): readonly Sequence[] {
    return [...this.#queues.values()].flat();
  }

  #count({ isDryRun }: Sequence, sign: 1 | -1): void {
    this.count += sign;
    if (!isDryRun) this.queued += sign;
  }

  /**
   * Takes the requests of a step, in order of arrival: each tenant in turn has one decided, with its choices. Without a
   * budget there is nothing to decide.
   * @param most requests that are decided
   */
  take(most: number): readonly Sequence[] {
    const taken: Sequence[] = [];
    for (let decided = 0; decided < most;) {
      const [next] = this.#queues;
      const [first] = next?.[1] ?? [];
      if (next === undefined || first === undefined) break;
      const [tenant, queue] = next;
      const end = queue.findIndex((each) => !isSibling(first, each));
      taken.push(...queue.splice(0, end < 0 ? queue.length : end));
      if (first.hasBudget || first.isDryRun) decided += 1;
      this.#queues.delete(tenant);
      if (queue.length > 0) this.#queues.set(tenant, queue);
    }
    for (const each of taken) this.#count(each, -1);
    return taken.sort((a, b) => a.arrivedAt - b.arrivedAt);
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
  if (a === b || (a.isRefusable && a.request.depth === b.request.depth)) return true;
  const mayReject = a.budget?.onMiss === 'reject' && b.budget?.onMiss === 'reject';
  const isSame = a.arrivedAt === b.arrivedAt && a.budget?.totalMs === b.budget?.totalMs && a.tenant === b.tenant;
  return mayReject && isSame;
}

/** Requests that are decided one round behind the other. A dry run changes no plan, so each is decided by itself. */
export function roundsOf(arrived: readonly Sequence[]): Sequence[][] {
  const real = arrived.filter(({ isDryRun }) => !isDryRun);
  const dryRuns = arrived.filter(({ isDryRun }) => isDryRun).map((each) => [each]);
  return [real.filter(({ isAsleep }) => !isAsleep), real.filter(({ isAsleep }) => isAsleep), ...dryRuns];
}
