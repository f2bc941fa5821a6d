/**
 * The order in which waiting sequences of several tenants get slots: start-time fair queueing. Each tenant has a
 * virtual time, the service that its sequences have started. The tenant with the least goes first, so a flood of one
 * tenant delays its own sequences. A tenant that was idle starts at the virtual time of the others: it gains no credit.
 *
 * Goyal, Vin and Cheng, "Start-time fair queueing", SIGCOMM 1996. A token of the answer costs twice a token of the
 * prompt, as in Sheng et al., "Fairness in serving large language models", OSDI 2024.
 *
 * The running sequence that leaves its slot to a waiting one: slots are shared by tenants, and a promise comes first.
 *
 * A sequence without a promise yields to any promise, unless it is one of the oldest, which keep their share. Else it
 * yields where its tenant has more than a fair share of the slots, and the other tenant has less. So a tenant alone
 * uses all slots, and no two sequences take turns.
 *
 * Must not know: memory, budgets.
 */
import type { Sequence } from './sequence.js';

/** Tenants with a virtual time; those behind the present one are forgotten beyond. */
const MOST_TENANTS = 1024;

type Served = Pick<Sequence, 'tenant' | 'service'>;

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
  order<T extends Served & Pick<Sequence, 'isPromisedAt'>>(ordered: readonly T[], now: number): T[] {
    const promised = ordered.filter((each) => each.isPromisedAt(now));
    const tags = new Map<string, number>();
    const fair = ordered
      .filter((each) => !each.isPromisedAt(now))
      .map((each) => {
        const tag = tags.get(each.tenant) ?? this.#startOf(each.tenant);
        tags.set(each.tenant, tag + each.service);
        return { each, tag };
      })
      .sort((a, b) => a.tag - b.tag)
      .map(({ each }) => each);
    const lead = ordered[0]?.isPromisedAt(now) === false ? 1 : 0;
    return [...fair.slice(0, lead), ...promised, ...fair.slice(lead)];
  }

  /** A sequence of the tenant got a slot. */
  started({ tenant, service }: Served): void {
    const start = this.#startOf(tenant);
    this.#now = Math.max(this.#now, start);
    this.#finish.set(tenant, start + service);
    if (this.#finish.size <= MOST_TENANTS) return;
    for (const [each, finish] of this.#finish) if (finish <= this.#now) this.#finish.delete(each);
  }

  /** A sequence left its slot. Its tenant is charged the service that it got, not the expected one. */
  left({ tenant, unused }: Pick<Sequence, 'tenant' | 'unused'>): void {
    const finish = this.#finish.get(tenant);
    if (finish !== undefined) this.#finish.set(tenant, finish - unused);
  }

  #startOf(tenant: string): number {
    return Math.max(this.#now, this.#finish.get(tenant) ?? 0);
  }
}

type Holder = Pick<Sequence, 'tenant' | 'arrivedAt' | 'isPromisedAt'>;

/**
 * The first waiting sequence that gets its slot from a running one, with that one: of those that yield, the newest of
 * the tenant with the most slots. Null for none.
 * @param slots most running sequences
 * @param protectedRows of the running ones, the oldest without a promise that no promise preempts
 */
export function yielded<T extends Holder>(
  { running, waiting }: { readonly running: readonly T[]; readonly waiting: readonly T[] },
  { slots, protectedRows, now }: { readonly slots: number; readonly protectedRows: number; readonly now: number },
): { readonly next: T; readonly victim: T } | null {
  const { size: tenants } = new Set([...running, ...waiting].map(({ tenant }) => tenant));
  if (tenants < 2 && !waiting.some((each) => each.isPromisedAt(now))) return null;
  const share = Math.max(1, Math.floor(slots / tenants));
  const held = ({ tenant }: Holder): number => running.filter((each) => each.tenant === tenant).length;
  const others = running.filter((each) => !each.isPromisedAt(now)).sort((a, b) => a.arrivedAt - b.arrivedAt);
  const unprotected = others.slice(protectedRows);
  const beyondShare = others.filter((each) => held(each) > share);
  for (const next of waiting) {
    const yields = next.isPromisedAt(now) ? unprotected : held(next) < share ? beyondShare : [];
    const most = Math.max(...yields.map(held));
    const victim = yields.findLast((each) => held(each) === most);
    if (victim !== undefined) return { next, victim };
  }
  return null;
}

type NetRow = Pick<Sequence, 'isNet' | 'sentence'>;

/**
 * The nets that end, since other nets wait for a slot: a net is promised one sentence, and they have one.
 * @param slots most running sequences
 * @returns the ones that lose the fewest tokens behind their last sentence
 */
export function landingNets<T extends NetRow>(
  { running, waiting }: { readonly running: readonly T[]; readonly waiting: readonly NetRow[] },
  slots: number,
): T[] {
  const missing = waiting.filter(({ isNet }) => isNet).length - (slots - running.length);
  const whole = running.filter(({ isNet, sentence }) => isNet && sentence.first !== null);
  return whole.sort((a, b) => a.sentence.tokens - b.sentence.tokens).slice(0, Math.max(0, missing));
}
