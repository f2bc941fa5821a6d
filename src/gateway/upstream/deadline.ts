/** The instants of an answer under a budget. Instants are on the monotonic clock, times in ms. */
import type { BudgetTimes } from '../../protocol/outcome.js';
import { monotonicMs, timerUntil } from '../../util/clock.js';
import type { LocalTimes } from './local-answer.js';
import type { FirstPart } from './upstream-body.js';

/** Time of bytes to the client. Answers that end together are written one after the other. */
const BYTES_MS = 20;
const BYTES_SHARE = 0.1;
/** Time of the end of one answer, and the time within which deadlines count as one. */
const END_MS = 0.75;
const TOGETHER_MS = 100;
/** Open deadlines by their place in time. */
const open = new Map<number, number>();
/** Share of a budget, at its end, in which whole sentences go out only. */
const HOLD_SHARE = 0.5;
const LEAST_HOLD_MS = 500;
/** A sentence may be longer than those in front of it. */
const LONGER = 2;

/** The reason with which the signal of a deadline aborts. */
export class DeadlinePassed extends Error {
  override readonly name = 'DeadlinePassed';
}
const PASSED = new DeadlinePassed();

/** The part of an answer that its client is to have first: that of its budget, else a sentence by the deadline. */
export class FirstDue {
  /** When it is to go out. */
  readonly at: number;
  #sentAt: number | null = null;

  /** @param part null: the budget states none */
  constructor(
    private readonly arrivedAt: number,
    private readonly part: FirstPart | null,
    private readonly endsAt: number,
  ) {
    const ms = part?.ms ?? Infinity;
    this.at = Math.min(endsAt, arrivedAt + ms - Math.min(BYTES_MS, BYTES_SHARE * ms));
  }

  /** Whether any content is the first part; else a whole sentence is. */
  get isContent(): boolean {
    return this.part?.isSentence === false;
  }

  /** Whether text goes out in whole sentences until the first one. */
  get awaitsSentence(): boolean {
    return this.part?.isSentence === true && this.#sentAt === null;
  }

  /** A part of the answer goes out. */
  sent(now: number): void {
    this.#sentAt ??= now;
  }

  /** The budget of the part; null: none. */
  get limits(): Partial<BudgetTimes> | null {
    return this.part === null ? null : { [this.isContent ? 'ttftMs' : 'sentenceMs']: this.part.ms };
  }

  /** When it went out; without end as long as it has not. */
  get times(): Partial<BudgetTimes> {
    return { [this.isContent ? 'ttftMs' : 'sentenceMs']: (this.#sentAt ?? Infinity) - this.arrivedAt };
  }

  /** The budget of a local answer with the same instants. */
  get localTimes(): LocalTimes {
    const total = { latency_budget_ms: this.endsAt - this.arrivedAt };
    if (this.part === null) return total;
    const ms = this.at - this.arrivedAt;
    return this.isContent ? { ...total, slo_ttft_ms: ms } : { ...total, first_sentence_ms: ms };
  }

  /** As the report states it. */
  report(): Readonly<Record<string, number>> {
    if (this.part === null) return {};
    const { ms } = this.part;
    const at =
      this.#sentAt === null
        ? {}
        : { [this.isContent ? 'ttft_ms' : 'first_sentence_ms']: Math.round(this.#sentAt - this.arrivedAt) };
    return { [this.isContent ? 'slo_ttft_ms' : 'first_sentence_budget_ms']: ms, ...at };
  }
}

export class Deadline {
  readonly signal: AbortSignal;
  /** When the answer ends, so that its last byte is out by the deadline. */
  readonly endsAt: number;
  readonly #timer: NodeJS.Timeout;
  readonly #place: number;

  constructor(
    readonly arrivedAt: number,
    readonly budgetMs: number,
  ) {
    const passesAt = arrivedAt + budgetMs;
    const place = (this.#place = Math.floor(passesAt / TOGETHER_MS));
    const others = [place - 1, place, place + 1].reduce((sum, each) => sum + (open.get(each) ?? 0), 0);
    open.set(place, (open.get(place) ?? 0) + 1);
    this.endsAt = passesAt - Math.min(BYTES_MS + others * END_MS, BYTES_SHARE * budgetMs);
    const over = new AbortController();
    this.signal = over.signal;
    this.#timer = setTimeout(() => {
      over.abort(PASSED);
    }, timerUntil(this.endsAt));
  }

  /** Milliseconds until the answer ends, at least one. */
  get leftMs(): number {
    return Math.max(1, this.endsAt - monotonicMs());
  }

  /**
   * Whether text behind the last sentence is held: a sentence that begins at this instant may not end in time.
   * @param firstTextAt of the answer
   * @param sentences whole ones so far
   */
  holds(now: number, firstTextAt: number | null, sentences: number): boolean {
    const pace = firstTextAt === null || sentences === 0 ? 0 : (now - firstTextAt) / sentences;
    const usual = Math.max(LEAST_HOLD_MS, LONGER * pace);
    return now >= this.endsAt - Math.min(HOLD_SHARE * this.budgetMs, usual);
  }

  /** Waits for a promise until the answer ends. @returns undefined at the end */
  within<T>(promise: Promise<T>): Promise<T | undefined> {
    const { signal } = this;
    const over = new Promise<undefined>((resolve) => {
      const end = (): void => {
        resolve(undefined);
      };
      if (signal.aborted) end();
      else signal.addEventListener('abort', end, { once: true });
    });
    return Promise.race([promise, over]);
  }

  /** Must be called once. */
  close(): void {
    clearTimeout(this.#timer);
    const left = (open.get(this.#place) ?? 1) - 1;
    if (left > 0) open.set(this.#place, left);
    else open.delete(this.#place);
  }
}
