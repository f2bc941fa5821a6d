/**
 * Ends answers that are cut at their deadline when the engine cannot: a step may take longer than predicted, and the
 * gateway's event loop is free meanwhile. An answer that has no plan at its deadline ends as well; with `reject` it is
 * rejected, by the engine unless that is silent.
 *
 * Knows: deadlines, and the events of each answer. Must not know: how the engine ends answers (Planner.endsAt).
 */
import { monotonicMs, timerUntil } from '../../util/clock.js';
import { isCutAtDeadline } from '../../protocol/outcome.js';
import type { EndedEvent, SequenceRequest, StepMessage } from '../../protocol/index.js';
import { unreportedEnd } from './sequence-events.js';

interface Watched {
  readonly promptTokens: number;
  /** Instant of the last bytes, if no other answer ended then. */
  readonly due: number;
  readonly deadline: number;
  /** Whether it is rejected instead: with `reject`, until it has a plan. */
  isRejected: boolean;
  timer: NodeJS.Timeout;
  firstTokenAt: number | null;
}

/** Time of the last bytes to the client. Answers that end together are written one after the other. */
const LAST_BYTES_MS = 4;
/** Answers whose deadlines are this close end together. */
const TOGETHER_MS = 10;
/** Most that an answer gives up for others, ms. */
const MOST_TOGETHER_MS = 16;
/** Least time for the engine to plan a request: response headers report the plan. */
const PLAN_MS = 10;
/** Time of the engine to reject a request itself, with the least budget: a step or two. */
const REJECT_MS = 250;

export class DeadlineTimer {
  readonly #watched = new Map<string, Watched>();

  /**
   * @param due receives the end of an answer that is still open at its deadline
   * @param reject receives the id of a request with `reject` that has no plan behind its deadline
   */
  constructor(
    private readonly due: (end: EndedEvent) => void,
    private readonly reject: (id: string) => void,
  ) {}

  add(request: SequenceRequest): void {
    const { id, arrivedAt, prompt, depth } = request;
    if (!isCutAtDeadline(request)) return;
    const due = arrivedAt + (depth.budget?.totalMs ?? Infinity) - LAST_BYTES_MS;
    const others = [...this.#watched.values()].filter((each) => Math.abs(each.due - due) < TOGETHER_MS).length;
    const early = Math.min(MOST_TOGETHER_MS, others * LAST_BYTES_MS);
    const isRejected = depth.budget?.onMiss === 'reject';
    const deadline = Math.max(due - early, monotonicMs() + PLAN_MS);
    const timer = this.#at(id, deadline + (isRejected ? REJECT_MS : 0));
    this.#watched.set(id, { promptTokens: prompt.length, due, deadline, isRejected, timer, firstTokenAt: null });
  }

  hear({ at, planned, tokens }: StepMessage): void {
    if (this.#watched.size === 0) return;
    for (const { id } of planned) {
      const watched = this.#watched.get(id);
      if (watched?.isRejected !== true) continue;
      watched.isRejected = false;
      clearTimeout(watched.timer);
      watched.timer = this.#at(id, watched.deadline);
    }
    for (const { id } of tokens) {
      const watched = this.#watched.get(id);
      if (watched) watched.firstTokenAt ??= at;
    }
  }

  drop(id: string): void {
    clearTimeout(this.#watched.get(id)?.timer);
    this.#watched.delete(id);
  }

  #at(id: string, deadline: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#fire(id);
    }, timerUntil(deadline));
  }

  #fire(id: string): void {
    const watched = this.#watched.get(id);
    if (watched === undefined) return;
    const now = monotonicMs();
    const deadline = watched.deadline + (watched.isRejected ? REJECT_MS : 0);
    if (now < deadline) {
      watched.timer = this.#at(id, deadline);
      return;
    }
    this.drop(id);
    if (watched.isRejected) {
      this.reject(id);
      return;
    }
    const { promptTokens, firstTokenAt } = watched;
    this.due(unreportedEnd(id, 'deadline', { promptTokens, firstTokenAt, endedAt: now }));
  }
}
