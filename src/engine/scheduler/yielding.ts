/**
 * The running sequence that leaves its slot to a waiting one: slots are shared by tenants, and a promise comes first.
 *
 * A sequence without a promise yields to any promise, unless it is one of the oldest, which keep their share. Else it
 * yields where its tenant has more than a fair share of the slots, and the other tenant has less. So a tenant alone
 * uses all slots, and no two sequences take turns. Must not know: memory, the order of the waiting.
 */
import type { Share } from './fair-order.js';
import type { Sequence } from './sequence.js';

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
