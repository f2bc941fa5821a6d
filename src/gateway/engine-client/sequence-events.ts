/**
 * The way of events from the engine's steps to the answers.
 *
 * Must not know: the engine process, text.
 */
import { monotonicMs } from '../../util/clock.js';
import type {
  ArmedEvent,
  CancelReason,
  EndedEvent,
  PlannedEvent,
  PromptEvent,
  RejectedEvent,
  StepMessage,
  TokenEvent,
} from '../../protocol/index.js';

/** An event of one sequence. Exactly one of `rejected`, `ended` and `lost` ends it. */
export type SequenceEvent = Payload & {
  /** Index of the sequence in its answer. */
  readonly index: number;
};

type Payload =
  | { readonly type: 'planned'; readonly event: PlannedEvent }
  /** It sleeps. `planned` follows when it wakes. */
  | { readonly type: 'armed'; readonly event: ArmedEvent }
  | { readonly type: 'rejected'; readonly event: RejectedEvent }
  | { readonly type: 'prompt'; readonly event: PromptEvent }
  /** `at`: end of the step that sampled the token. */
  | { readonly type: 'token'; readonly event: TokenEvent; readonly at: number }
  /** `heardAt`: when the gateway got the end. */
  | { readonly type: 'ended'; readonly event: EndedEvent; readonly heardAt: number }
  /** The engine process died or is unreachable. */
  | { readonly type: 'lost'; readonly message: string };

/**
 * The events of one answer's sequences, in order, as an async iterable. Each turn brings all events since the last one:
 * a step costs a reader one promise, and a late reader takes several steps together.
 */
export class SequenceEvents implements AsyncIterableIterator<readonly SequenceEvent[]> {
  #events: SequenceEvent[] = [];
  /** Sequences that may have a further event. */
  #open: number;
  /** Takes the events for a reader that waits. */
  #reader: (() => void) | null = null;

  /**
   * @param count sequences of the answer
   * @param cancel cancels those that have not ended
   */
  constructor(
    count: number,
    private readonly cancel: () => void,
  ) {
    this.#open = count;
  }

  /** The reader gets it at the next `wake`. @param isLast whether no further event of its sequence follows */
  add(event: SequenceEvent, isLast = false): void {
    if (this.#open === 0) return;
    this.#events.push(event);
    if (isLast) this.#open--;
  }

  /** Gives events that a reader has taken to the next one. */
  putBack(events: readonly SequenceEvent[]): void {
    this.#events.unshift(...events);
  }

  /** Ends the reader's wait, with no events if there are none. */
  wake(): void {
    this.#reader?.();
    this.#reader = null;
  }

  /** One reader at a time. */
  next(): Promise<IteratorResult<readonly SequenceEvent[], undefined>> {
    if (this.#events.length > 0 || this.#open === 0) return Promise.resolve(this.#take());
    return new Promise((resolve) => {
      this.#reader = () => {
        resolve(this.#take());
      };
    });
  }

  /** Cancels the sequences that have not ended. A reader that waits gets the end immediately. */
  return(): Promise<IteratorResult<readonly SequenceEvent[], undefined>> {
    const wasOpen = this.#open > 0;
    this.#open = 0;
    this.#events = [];
    if (wasOpen) this.cancel();
    this.wake();
    return Promise.resolve({ done: true, value: undefined });
  }

  #take(): IteratorResult<readonly SequenceEvent[], undefined> {
    const value = this.#events;
    if (value.length === 0 && this.#open === 0) return { done: true, value: undefined };
    this.#events = [];
    return { done: false, value };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** The end of a sequence before the engine has reported one. @param known what the gateway knows of it */
export function unreportedEnd(id: string, reason: CancelReason, known: Partial<EndedEvent> = {}): EndedEvent {
  return {
    id,
    reason,
    error: null,
    promptTokens: 0,
    cachedTokens: 0,
    preemptions: 0,
    startedAt: null,
    firstTokenAt: null,
    endedAt: monotonicMs(),
    ...known,
  };
}

interface Open {
  readonly answer: SequenceEvents;
  readonly index: number;
}

/** The sequences that the engine has: each of their events goes to its answer. */
export class OpenSequences {
  readonly #live = new Map<string, Open>();

  /** @param onLast is called when a sequence has its last event */
  constructor(private readonly onLast: (id: string) => void) {}

  /** Ids of the sequences that have not ended. */
  get ids(): string[] {
    return [...this.#live.keys()];
  }

  has(id: string): boolean {
    return this.#live.has(id);
  }

  add(id: string, open: Open): void {
    this.#live.set(id, open);
  }

  dispatch(step: StepMessage): void {
    /** An answer is woken once it has all its events of the step. */
    const highWaterMark = new Set<SequenceEvents>();
    const give = (open: Open | undefined, event: Payload, isLast = false): void => {
      if (open === undefined) return;
      highWaterMark.add(open.answer);
      open.answer.add({ index: open.index, ...event }, isLast);
    };
    for (const event of step.armed ?? []) give(this.#live.get(event.id), { type: 'armed', event });
    for (const event of step.planned) give(this.#live.get(event.id), { type: 'planned', event });
    for (const event of step.prompts) give(this.#live.get(event.id), { type: 'prompt', event });
    for (const event of step.tokens) give(this.#live.get(event.id), { type: 'token', event, at: step.at });
    for (const event of step.rejected) give(this.#take(event.id), { type: 'rejected', event }, true);
    for (const answer of highWaterMark) answer.wake();
    for (const event of step.ended) this.end(event);
  }

  end(event: EndedEvent): void {
    this.#last(event.id, { type: 'ended', event, heardAt: monotonicMs() });
  }

  reject(event: RejectedEvent): void {
    this.#last(event.id, { type: 'rejected', event });
  }

  /** The engine is gone: no further event comes. */
  loseAll(message: string): void {
    for (const id of this.ids) this.#last(id, { type: 'lost', message });
  }

  #last(id: string, event: Payload): void {
    const open = this.#take(id);
    if (open === undefined) return;
    open.answer.add({ index: open.index, ...event }, true);
    open.answer.wake();
  }

  #take(id: string): Open | undefined {
    const open = this.#live.get(id);
    this.#live.delete(id);
    this.onLast(id);
    return open;
  }
}
