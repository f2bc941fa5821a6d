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
    const shares = ordered.map((each) => ({ each, ...shareOf(each) }));
    const tags = new Map<string, number>();
    const fair = shares
      .filter(({ isPromised }) => !isPromised)
      .map(({ each, tenant, service }) => {
        const tag = tags.get(tenant) ?? this.#startOf(tenant);
        tags.set(tenant, tag + service);
        return { each, tag };
      })
      .sort((a, b) => a.tag - b.tag);
    const lead = shares[0]?.isPromised === false ? 1 : 0;
    const promised = shares.filter(({ isPromised }) => isPromised);
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

/** Answer tokens that a sequence is expected to have left; below 0 where it has more. */
export const tokensLeft = ({ expectedTokens, generated, maxTokens }: Sequence): number =>
  Math.min(expectedTokens, maxTokens) - generated;

export function shareOf(sequence: Sequence, now: number): Share {
  const { tenant, tokens } = sequence;
  const service = serviceOf(tokens.length, Math.max(1, tokensLeft(sequence)));
  return { tenant, isPromised: sequence.isPromisedAt(now), service };
}

/**
 * The first waiting sequence that gets its slot from a running one, with that one; null for none.
 * @param slots most running sequences
 * @param protectedRows of the running ones, the oldest without a promise that no promise preempts
 */
export function yielded(
  { running, waiting }: { readonly running: readonly Sequence[]; readonly waiting: readonly Sequence[] },
  { slots, protectedRows, now }: { readonly slots: number; readonly protectedRows: number; readonly now: number },
): { readonly next: Sequence; readonly victim: Sequence } | null {
  const tenants = new Set([...running, ...waiting].map(({ tenant }) => tenant));
  if (tenants.size < 2 && !waiting.some((each) => each.isPromisedAt(now))) return null;
  const holderOf = (sequence: Sequence) => ({
    sequence,
    tenant: sequence.tenant,
    isPromised: sequence.isPromisedAt(now),
  });
  const holders = running.toSorted((a, b) => a.arrivedAt - b.arrivedAt).map(holderOf);
  const share = fairShare(slots, tenants);
  for (const next of waiting) {
    const victim = yielding(holders, holderOf(next), share, protectedRows);
    if (victim !== null) return { next, victim: victim.sequence };
  }
  return null;
}

type Holder = Pick<Share, 'tenant' | 'isPromised'>;

/** Slots of a tenant where all with a sequence have equally many; at least one. */
export function fairShare(slots: number, tenants: ReadonlySet<string>): number {
  return Math.max(1, Math.floor(slots / Math.max(1, tenants.size)));
}

/**
 * @param running in order of arrival
 * @param next the waiting sequence that would start
 * @param share of `fairShare`
 * @param protectedRows of the running ones, the oldest without a promise that no promise preempts
 * @returns the newest sequence of the tenant with the most slots among the sequences that yield; null if none does
 */
export function yielding<T extends Holder>(
  running: readonly T[],
  next: Holder,
  share: number,
  protectedRows = 0,
): T | null {
  const held = new Map<string, number>();
  for (const { tenant } of running) held.set(tenant, (held.get(tenant) ?? 0) + 1);
  const count = (tenant: string): number => held.get(tenant) ?? 0;
  const isOwed = count(next.tenant) < share;
  const unpromised = running.filter(({ isPromised }) => !isPromised);
  const yields = next.isPromised
    ? unpromised.slice(protectedRows)
    : unpromised.filter(({ tenant }) => isOwed && count(tenant) > share);
  const most = Math.max(...yields.map(({ tenant }) => count(tenant)));
  return yields.findLast(({ tenant }) => count(tenant) === most) ?? null;
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
  if (missing <= 0) return [];
  const whole = running.filter(({ isNet, sentence }) => isNet && sentence.first !== null);
  return whole.sort((a, b) => a.sentence.tokens - b.sentence.tokens).slice(0, missing);
}
