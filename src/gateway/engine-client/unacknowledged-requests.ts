/**
 * Requests that the gateway has sent to the engine, and whose end the engine has not reported. They bound the messages
 * on their way to the engine, which reads between two steps only.
 *
 * A request that its client or its deadline has ended still counts: its messages are on their way.
 * Must not know: processes, answers.
 */
import type { SequenceRequest, StepMessage } from '../../protocol/index.js';
import { FairQuota } from '../../util/fair-quota.js';

/** Most prompt tokens of one tenant that the engine has not read: some 6 MB of messages, which take seconds to read. */
const MOST_UNREAD_TOKENS = 2 ** 20;

interface Sent {
  readonly tenant: string;
  readonly tokens: number;
  readonly sentAt: number;
  /** The engine has read the request. */
  isRead: boolean;
  /** The engine reports nothing of the request until its grammar is compiled. */
  readonly hasGrammar: boolean;
}

type Sequence = Pick<SequenceRequest, 'id' | 'tenant' | 'grammar'>;

export class UnacknowledgedRequests {
  readonly #sequences: FairQuota;
  readonly #tokens = new FairQuota(MOST_UNREAD_TOKENS);
  /** In the order of sending. */
  readonly #sent = new Map<string, Sent>();

  /** @param most sequences of one tenant alone */
  constructor(most: number) {
    this.#sequences = new FairQuota(most);
  }

  /** Most sequences of all tenants together. */
  static capacityOf(most: number): number {
    return 2 * most;
  }

  /**
   * Whether a tenant may send so many sequences.
   * @param tokens their prompts together; a tenant without unread prompts may send one request of any size
   */
  hasRoom(tenant: string, sequences: number, tokens: number): boolean {
    const fits = this.#tokens.held(tenant) === 0 || tokens <= this.#tokens.available(tenant);
    return fits && sequences <= this.#sequences.available(tenant);
  }

  /** @param tokens of its prompt; 0 for a further choice, whose message has the prompt once */
  add({ id, tenant = '', grammar = null }: Sequence, tokens: number, sentAt: number): void {
    this.#sequences.acquire(tenant, 1);
    this.#tokens.acquire(tenant, tokens);
    this.#sent.set(id, { tenant, tokens, sentAt, isRead: false, hasGrammar: grammar !== null });
  }

  hear({ planned, armed = [], rejected, ended }: Pick<StepMessage, 'planned' | 'armed' | 'rejected' | 'ended'>): void {
    for (const { id } of [...planned, ...armed]) this.#read(this.#sent.get(id));
    for (const { id } of [...rejected, ...ended]) this.#over(id);
  }

  /** The engine is gone, with everything that was sent to it. */
  clear(): void {
    for (const id of [...this.#sent.keys()]) this.#over(id);
  }

  /** Sequences that the engine has not ended. */
  get count(): number {
    return this.#sent.size;
  }

  /** How long the first unread request has been on its way; 0 without one. */
  unreadMs(now: number): number {
    for (const { isRead, hasGrammar, sentAt } of this.#sent.values()) if (!isRead && !hasGrammar) return now - sentAt;
    return 0;
  }

  #over(id: string): void {
    const sent = this.#sent.get(id);
    if (sent === undefined) return;
    this.#read(sent);
    this.#sequences.release(sent.tenant, 1);
    this.#sent.delete(id);
  }

  #read(sent: Sent | undefined): void {
    if (sent === undefined || sent.isRead) return;
    sent.isRead = true;
    this.#tokens.release(sent.tenant, sent.tokens);
  }
}
