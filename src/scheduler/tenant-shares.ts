/**
 * The shares of tenants in the slots: the order of the waiting (fair-order.ts) and the sequences that yield (yielding.ts).
 *
 * Must not know: slots, memory.
 */
import type { Sequence } from './sequence.js';
import { FairOrder, type Share, serviceOf } from './fair-order.js';
import { fairShare, yielding } from './yielding.js';

const tenantOf = ({ request }: Sequence): string => request.tenant ?? '';

export class TenantShares {
  readonly #fair = new FairOrder();
  /** By id of a running sequence: the service that its tenant was charged, and the tokens at its start. */
  readonly #charged = new Map<string, { readonly service: number; readonly tokens: number }>();
  /** Start of the present step. */
  now = 0;

  /** @param ordered the waiting sequences in the router's order */
  order(ordered: readonly Sequence[]): Sequence[] {
    return this.#fair.order(ordered, (each) => this.#shareOf(each));
  }

  /** Charges the tenant of a sequence that got a slot. */
  started(sequence: Sequence): void {
    const { service } = this.#shareOf(sequence);
    this.#fair.started({ tenant: tenantOf(sequence), service });
    this.#charged.set(sequence.id, { service, tokens: sequence.tokens.length });
  }

  /** Charges the service that a sequence got until it left its slot, in place of the expected one. */
  left({ id, tokens, request }: Sequence): void {
    const charged = this.#charged.get(id);
    this.#charged.delete(id);
    if (charged === undefined) return;
    const got = serviceOf(charged.tokens, tokens.length - charged.tokens);
    this.#fair.left(request.tenant ?? '', charged.service - got);
  }

  /**
   * The first waiting sequence that gets its slot from a running one, with that one; null for none.
   * @param slots most running sequences
   * @param kept of them, the oldest without a promise that no promise preempts
   */
  yielded(
    running: readonly Sequence[],
    waiting: readonly Sequence[],
    { slots, kept }: { readonly slots: number; readonly kept: number },
  ): { readonly next: Sequence; readonly victim: Sequence } | null {
    const tenants = new Set([...running, ...waiting].map(tenantOf));
    if (tenants.size < 2 && !waiting.some((each) => this.isPromised(each))) return null;
    const holder = (sequence: Sequence) => ({
      sequence,
      tenant: tenantOf(sequence),
      isPromised: this.isPromised(sequence),
    });
    const holders = [...running].sort((a, b) => a.request.arrivedAt - b.request.arrivedAt).map(holder);
    const share = fairShare(slots, tenants);
    for (const next of waiting) {
      const victim = yielding(holders, holder(next), share, kept);
      if (victim !== null) return { next, victim: victim.sequence };
    }
    return null;
  }

  /** Whether a sequence was promised its budget, which is not over. */
  isPromised({ admission, request: { arrivedAt, depth } }: Sequence): boolean {
    const isGuaranteed = admission?.kind === 'admit' && admission.serviceClass === 'guaranteed';
    return isGuaranteed && this.now < arrivedAt + (depth.budget?.totalMs ?? Infinity);
  }

  #shareOf(sequence: Sequence): Share {
    const { admission, generated, request, tokens } = sequence;
    const expected = admission?.kind === 'admit' ? admission.expectedTokens : request.maxTokens;
    const left = Math.max(1, Math.min(expected, request.maxTokens) - generated);
    const isPromised = this.isPromised(sequence);
    return { tenant: tenantOf(sequence), isPromised, service: serviceOf(tokens.length, left) };
  }
}
