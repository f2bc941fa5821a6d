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

export class TenantShares {
  readonly #fair = new FairOrder();
  /** By id of a running sequence: the service that its tenant was charged, and the tokens at its start. */
  readonly #charged = new Map<string, { readonly service: number; readonly tokens: number }>();
  /** Start of the present step. */
  now = 0;

  /** @param ordered the waiting sequences in order of service */
  order(ordered: readonly Sequence[]): Sequence[] {
    return this.#fair.order(ordered, (each) => this.#shareOf(each));
  }

  /** Charges the tenant of a sequence that got a slot. */
  started(sequence: Sequence): void {
    const { service } = this.#shareOf(sequence);
    this.#fair.started({ tenant: sequence.tenant, service });
    this.#charged.set(sequence.id, { service, tokens: sequence.tokens.length });
  }

  /** Charges the service that a sequence got until it left its slot, in place of the expected one. */
  left({ id, tokens, tenant }: Sequence): void {
    const charged = this.#charged.get(id);
    this.#charged.delete(id);
    if (charged === undefined) return;
    const got = serviceOf(charged.tokens, tokens.length - charged.tokens);
    this.#fair.left(tenant, charged.service - got);
  }

  /**
   * The first waiting sequence that gets its slot from a running one, with that one; null for none.
   * @param slots most running sequences
   * @param protectedRows of the running ones, the oldest without a promise that no promise preempts
   */
  yielded(
    running: readonly Sequence[],
    waiting: readonly Sequence[],
    { slots, protectedRows }: { readonly slots: number; readonly protectedRows: number },
  ): { readonly next: Sequence; readonly victim: Sequence } | null {
    const tenants = new Set([...running, ...waiting].map(({ tenant }) => tenant));
    if (tenants.size < 2 && !waiting.some((each) => each.isPromisedAt(this.now))) return null;
    const holder = (sequence: Sequence) => ({
      sequence,
      tenant: sequence.tenant,
      isPromised: sequence.isPromisedAt(this.now),
    });
    const holders = [...running].sort((a, b) => a.arrivedAt - b.arrivedAt).map(holder);
    const share = fairShare(slots, tenants);
    for (const next of waiting) {
      const victim = yielding(holders, holder(next), share, protectedRows);
      if (victim !== null) return { next, victim: victim.sequence };
    }
    return null;
  }

  #shareOf(sequence: Sequence): Share {
    const { tenant, expectedTokens, generated, maxTokens, tokens } = sequence;
    const left = Math.max(1, Math.min(expectedTokens, maxTokens) - generated);
    return { tenant, isPromised: sequence.isPromisedAt(this.now), service: serviceOf(tokens.length, left) };
  }
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
