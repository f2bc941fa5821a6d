/** The instants of an answer under a budget. Instants are on the monotonic clock, times in ms. */
import type { SortieRequest } from '../api/schemas/shared.js';
import type { BudgetTimes } from '../../protocol/outcome.js';
import { timerUntil } from '../../util/clock.js';
import { present } from '../../util/present.js';
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

export class Deadline {
  /** When the answer ends, so that its last byte is out by the deadline. */
  readonly endsAt: number;
  /** Whether any content is the first part; else a whole sentence is. */
  readonly isContent: boolean;
  /** When the first part is to go out: that of the budget, else a sentence by the deadline. */
  readonly firstAt: number;
  /** When a part of the answer went out. */
  firstSentAt: number | null = null;
  readonly #over = new AbortController();
  readonly signal = this.#over.signal;
  readonly #passed: Promise<undefined>;
  #timer: NodeJS.Timeout | undefined;
  readonly #place: number;

  /** @param first null: the budget states no first part */
  constructor(
    private readonly arrivedAt: number,
    private readonly budgetMs: number,
    private readonly first: FirstPart | null = null,
  ) {
    const passesAt = arrivedAt + budgetMs;
    const place = (this.#place = Math.floor(passesAt / TOGETHER_MS));
    const others = [place - 1, place, place + 1].reduce((sum, each) => sum + (open.get(each) ?? 0), 0);
    open.set(place, (open.get(place) ?? 0) + 1);
    this.endsAt = passesAt - Math.min(BYTES_MS + others * END_MS, BYTES_SHARE * budgetMs);
    this.isContent = first?.isSentence === false;
    const firstMs = first?.ms ?? Infinity;
    this.firstAt = Math.min(this.endsAt, arrivedAt + firstMs - Math.min(BYTES_MS, BYTES_SHARE * firstMs));
    this.#passed = new Promise((resolve) => {
      this.#timer = setTimeout(() => {
        this.#over.abort(PASSED);
        resolve(undefined);
      }, timerUntil(this.endsAt));
    });
  }

  /** Whether text goes out in whole sentences until the first one. */
  get awaitsSentence(): boolean {
    return this.first?.isSentence === true && this.firstSentAt === null;
  }

  /** Budget and time of the first part: without end as long as it is not out; null: the budget states none. */
  firstTold() {
    if (this.first === null) return null;
    const { ms, isSentence } = this.first;
    const tookMs = (this.firstSentAt ?? Infinity) - this.arrivedAt;
    const times = (of: number): Partial<BudgetTimes> => ({ [isSentence ? 'sentenceMs' : 'ttftMs']: of });
    const report = {
      [isSentence ? 'first_sentence_budget_ms' : 'slo_ttft_ms']: ms,
      [isSentence ? 'first_sentence_ms' : 'ttft_ms']: tookMs === Infinity ? null : Math.round(tookMs),
    };
    return { limits: times(ms), actual: times(tookMs), report: present(report) };
  }

  /** The budget of a local answer with the same instants. */
  get localTimes(): Pick<SortieRequest, 'latency_budget_ms' | 'slo_ttft_ms' | 'first_sentence_ms'> {
    const total = { latency_budget_ms: this.endsAt - this.arrivedAt };
    if (this.first === null) return total;
    return { ...total, [this.isContent ? 'slo_ttft_ms' : 'first_sentence_ms']: this.firstAt - this.arrivedAt };
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
    return Promise.race([promise, this.#passed]);
  }

  /** Must be called once. */
  close(): void {
    clearTimeout(this.#timer);
    const left = (open.get(this.#place) ?? 1) - 1;
    if (left > 0) open.set(this.#place, left);
    else open.delete(this.#place);
  }
}
