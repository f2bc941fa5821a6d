/**
 * The order in which waiting sequences of several tenants get slots: start-time fair queueing. Each tenant has a
 * virtual time, the service that its sequences have started. The tenant with the least goes first, so a flood of one
 * tenant delays its own sequences. A tenant that was idle starts at the virtual time of the others: it gains no credit.
 *
 * Goyal, Vin and Cheng, "Start-time fair queueing", SIGCOMM 1996. A token of the answer costs twice a token of the
 * prompt, as in Sheng et al., "Fairness in serving large language models", OSDI 2024. Must not know: slots, memory,
 * budgets.
 */

/** Weight of an answer's token against a prompt's. */
const ANSWER_WEIGHT = 2;
/** Tenants with a virtual time; those behind the present one are forgotten beyond. */
const MOST_TENANTS = 1024;

/** Service of a sequence in the unit of virtual time. */
export function serviceOf(promptTokens: number, answerTokens: number): number {
  return promptTokens + ANSWER_WEIGHT * answerTokens;
}

export interface Share {
  readonly tenant: string;
  /** Whether the sequence was promised its budget, and can keep it. */
  readonly isPromised: boolean;
  /** Service that is expected of the sequence (`serviceOf`). */
  readonly service: number;
}

export class FairOrder {
  /** By tenant: virtual time at which its last started sequence is served. */
  readonly #finish = new Map<string, number>();
  /** Virtual time: that at which the last sequence started. */
  #now = 0;

  /**
   * Promised sequences stay in the order of service: admission has counted their time. The others follow, each tenant's
   * in the order of service; one of them goes first where the order begins with one.
   * @param ordered the waiting sequences in the order of service
   */
  order<T>(ordered: readonly T[], shareOf: (each: T) => Share): T[] {
    const shares = ordered.map((each, place) => ({ each, place, ...shareOf(each) }));
    const promised = shares.filter(({ isPromised }) => isPromised);
    const queues = new Map<string, { readonly waiting: typeof shares; tag: number }>();
    for (const share of shares) {
      if (share.isPromised) continue;
      const queue = queues.get(share.tenant);
      if (queue === undefined) queues.set(share.tenant, { waiting: [share], tag: this.#startOf(share.tenant) });
      else queue.waiting.push(share);
    }
    const fair: typeof shares = [];
    for (;;) {
      const [first, ...others] = queues.values();
      if (first === undefined) break;
      const least = others.reduce((a, b) => (isBefore(b, a) ? b : a), first);
      const next = least.waiting.shift();
      if (next === undefined) break;
      fair.push(next);
      least.tag += next.service;
      if (least.waiting.length === 0) queues.delete(next.tenant);
    }
    const lead = shares[0]?.isPromised === false ? 1 : 0;
    return [...fair.slice(0, lead), ...promised, ...fair.slice(lead)].map(({ each }) => each);
  }

  /** A sequence of the tenant got a slot. */
  started({ tenant, service }: Pick<Share, 'tenant' | 'service'>): void {
    const start = this.#startOf(tenant);
    this.#now = Math.max(this.#now, start);
    this.#finish.set(tenant, start + service);
    if (this.#finish.size <= MOST_TENANTS) return;
    for (const [each, finish] of this.#finish) if (finish <= this.#now) this.#finish.delete(each);
  }

  /** A sequence left its slot. @param unused its expected service less the service that it got; negative for more */
  left(tenant: string, unused: number): void {
    const finish = this.#finish.get(tenant);
    if (finish !== undefined) this.#finish.set(tenant, finish - unused);
  }

  #startOf(tenant: string): number {
    return Math.max(this.#now, this.#finish.get(tenant) ?? 0);
  }
}

interface Queue {
  readonly tag: number;
  readonly waiting: readonly { readonly place: number }[];
}

/** Whether a tenant is served before another one; ties by the order of service. */
function isBefore(a: Queue, b: Queue): boolean {
  return a.tag < b.tag || (a.tag === b.tag && (a.waiting[0]?.place ?? 0) < (b.waiting[0]?.place ?? 0));
}
