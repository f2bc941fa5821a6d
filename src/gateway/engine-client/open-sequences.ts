/**
 * The sequences that the engine has, up to its report of their end. Their events go to their answers, and their number
 * bounds the messages on their way to the engine, which reads between two steps only. Answers that are cut at their
 * deadline end here when the engine can't end them: a step may take longer than predicted.
 *
 * Must not know: the engine process, text, how the engine ends answers (Planner.endsAt).
 */
import { monotonicMs, timerUntil } from '../../util/clock.js';
import { FairQuota } from '../../util/fair-quota.js';
import { cutAt } from '../../protocol/outcome.js';
import type { CancelReason, EndedEvent, SequenceRequest, StepMessage } from '../../protocol/index.js';
import type { SequenceEvents, Payload } from './sequence-events.js';

/** Most prompt tokens of one tenant that the engine has not read: some 6 MB of messages, which take seconds to read. */
const MOST_UNREAD_TOKENS = 2 ** 20;
/** Time of the last bytes to the client. */
const LAST_BYTES_MS = 4;
/** Least time for the engine to plan a request: response headers report the plan. */
const PLAN_MS = 10;
/** Time of the engine to reject a request itself, with the least budget: a step or two. */
const REJECT_MS = 250;

interface Sent {
  readonly request: Pick<SequenceRequest, 'id' | 'arrivedAt' | 'prompt' | 'tenant' | 'grammar' | 'depth'>;
  readonly answer: SequenceEvents;
  readonly index: number;
  readonly sentAt: number;
  /** Tokens of its prompt that the engine has not read. */
  unread: number;
  isRead: boolean;
  /** It has its last event. Its messages are on their way. */
  isOver: boolean;
  timer: NodeJS.Timeout | undefined;
  firstTokenAt: number | null;
}

/** The end of a sequence that the engine has not reported. @param known what the gateway knows of it */
function unreportedEnd(id: string, reason: CancelReason, known: Partial<EndedEvent> = {}): EndedEvent {
  const none = { error: null, promptTokens: 0, cachedTokens: 0, preemptions: 0, startedAt: null, firstTokenAt: null };
  return { id, reason, ...none, endedAt: monotonicMs(), ...known };
}

const ended = (event: EndedEvent): Payload => ({ type: 'ended', event, heardAt: monotonicMs() });

export class OpenSequences {
  /** In the order of sending. */
  readonly #sent = new Map<string, Sent>();
  readonly #places: FairQuota;
  readonly #tokens = new FairQuota(MOST_UNREAD_TOKENS);

  /**
   * @param most sequences of one tenant alone; all tenants together have twice as many
   * @param overdue is called for an open sequence at its deadline. The end follows: null for the rejection of a request
   * with `reject` that has no plan
   */
  constructor(
    most: number,
    private readonly overdue: (id: string, end: EndedEvent | null) => void,
  ) {
    this.#places = new FairQuota(most);
  }

  /** Ids of the sequences that have not ended. */
  get ids(): string[] {
    return [...this.#sent].flatMap(([id, { isOver }]) => (isOver ? [] : [id]));
  }

  has(id: string): boolean {
    return this.#sent.get(id)?.isOver === false;
  }

  /**
   * Whether a tenant may send so many sequences.
   * @param tokens their prompts together; a tenant without unread prompts may send one request of any size
   */
  hasRoom(tenant: string, sequences: number, tokens: number): boolean {
    const fits = this.#tokens.held(tenant) === 0 || tokens <= this.#tokens.available(tenant);
    return fits && sequences <= this.#places.available(tenant);
  }

  /** How long the first unread request is on its way; 0 without one. Of its grammar the engine reports no reading. */
  unreadMs(now: number): number {
    for (const { isRead, request, sentAt } of this.#sent.values())
      if (!isRead && (request.grammar ?? null) === null) return now - sentAt;
    return 0;
  }

  /** @param unread tokens of its prompt; 0 for a further choice, whose message has the prompt once */
  add(request: Sent['request'], answer: SequenceEvents, index: number, unread: number): void {
    const { id, tenant = '' } = request;
    this.#places.acquire(tenant, 1);
    this.#tokens.acquire(tenant, unread);
    const open = { isRead: false, isOver: false, timer: undefined, firstTokenAt: null };
    const sent: Sent = { request, answer, index, unread, sentAt: monotonicMs(), ...open };
    this.#sent.set(id, sent);
    this.#watch(sent, request.depth.budget?.onMiss === 'reject');
  }

  hear({ at, planned, armed = [], prompts, tokens, rejected, ended: ends }: StepMessage): void {
    /** An answer is woken once it has all its events of the step. */
    const woken = new Set<SequenceEvents>();
    const give = (id: string, event: Payload): void => {
      const sent = this.#sent.get(id);
      if (sent === undefined) return;
      if (event.type === 'token') sent.firstTokenAt ??= at;
      else if (event.type !== 'prompt') this.#read(sent);
      if (sent.isOver) return;
      if (event.type === 'planned' && sent.request.depth.budget?.onMiss === 'reject') this.#watch(sent, false);
      sent.answer.add({ index: sent.index, ...event });
      woken.add(sent.answer);
    };
    for (const event of armed) give(event.id, { type: 'armed', event });
    for (const event of planned) give(event.id, { type: 'planned', event });
    for (const event of prompts) give(event.id, { type: 'prompt', event });
    for (const event of tokens) give(event.id, { type: 'token', event, at });
    for (const event of rejected) this.#reported(event, { type: 'rejected', event });
    for (const answer of woken) answer.wake();
    for (const event of ends) this.#reported(event, ended(event));
  }

  /** Ends a sequence for its client. The engine may be stuck, or in a step of seconds. */
  end(id: string, reason: CancelReason): void {
    this.#last(id, ended(unreportedEnd(id, reason)));
  }

  /** The engine is gone, with everything that it had: no further event comes. */
  loseAll(message: string): void {
    for (const id of [...this.#sent.keys()]) this.#reported({ id }, { type: 'lost', message });
  }

  #watch(sent: Sent, isRejected: boolean): void {
    const { arrivedAt, depth, id, prompt } = sent.request;
    const cut = cutAt({ arrivedAt, budget: depth.budget });
    if (cut === Infinity) return;
    const due = Math.max(cut - LAST_BYTES_MS, sent.sentAt + PLAN_MS);
    clearTimeout(sent.timer);
    sent.timer = setTimeout(
      () => {
        const known = { promptTokens: prompt.length, firstTokenAt: sent.firstTokenAt };
        const end = isRejected ? null : unreportedEnd(id, 'deadline', known);
        this.overdue(id, end);
        const rejected = { id, reason: 'budget_infeasible', leastFeasibleMs: null } as const;
        this.#last(id, end === null ? { type: 'rejected', event: rejected } : ended(end));
      },
      timerUntil(due + (isRejected ? REJECT_MS : 0)),
    );
  }

  #reported({ id }: { readonly id: string }, last: Payload): void {
    this.#last(id, last);
    const sent = this.#sent.get(id);
    if (sent === undefined) return;
    this.#read(sent);
    this.#places.release(sent.request.tenant ?? '', 1);
    this.#sent.delete(id);
  }

  #last(id: string, event: Payload): void {
    const sent = this.#sent.get(id);
    if (sent === undefined || sent.isOver) return;
    sent.isOver = true;
    clearTimeout(sent.timer);
    sent.answer.add({ index: sent.index, ...event }, true);
    sent.answer.wake();
  }

  #read(sent: Sent): void {
    sent.isRead = true;
    this.#tokens.release(sent.request.tenant ?? '', sent.unread);
    sent.unread = 0;
  }
}
