/**
 * The events of one answer.
 *
 * Must not know: the engine process, text.
 */
import type {
  ArmedEvent,
  EndedEvent,
  PlannedEvent,
  PromptEvent,
  RejectedEvent,
  TokenEvent,
} from '../../protocol/index.js';

/** An event of one sequence. Exactly one of `rejected`, `ended` and `lost` ends it. */
export type SequenceEvent = Payload & {
  /** Index of the sequence in its answer. */
  readonly index: number;
};

/** An event without its place. */
export type Payload =
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
