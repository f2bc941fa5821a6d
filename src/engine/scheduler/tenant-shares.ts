/**
 * The shares of tenants in the slots: the order of the waiting (fair-order.ts) and the sequences that yield
 * (yielding.ts).
 *
 * Must not know: slots, memory.
 */
import type { Sequence } from './sequence.js';
import { FairOrder, type Share, serviceOf } from './fair-order.js';
import { fairShare, yielding } from './yielding.js';

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
