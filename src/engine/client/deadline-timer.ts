/**
 * Ends answers with `truncate` at their deadline when the engine can't: a step that takes longer than any before it
 * ends when it ends, but the gateway's event loop is free meanwhile. One that was not even planned by then ends as well.
 *
 * Knows: deadlines, what was heard of each answer. Must not know: how the engine ends them by itself (overdue.ts).
 */
import { monotonicMs, timerUntil } from '../../util/clock.js';
import type { EndedEvent, GenerateMessage, StepMessage } from '../protocol.js';

interface Watched {
  readonly promptTokens: number;
  readonly deadline: number;
  timer: NodeJS.Timeout;
  firstTokenAt: number | null;
}

/** How long the engine has to plan a request in any case, ms: headers tell the plan. */
const PLAN_MS = 10;

export class DeadlineTimer {
  readonly #watched = new Map<string, Watched>();

  /** @param due called at the deadline of an answer that did not end before, with what ends it */
  constructor(private readonly due: (end: EndedEvent) => void) {}

  add({ id, arrivedAt, prompt, depth }: Omit<GenerateMessage, 'type'>): void {
    const { budget } = depth;
    if (budget?.onMiss !== 'truncate' || budget.totalMs === null) return;
    const deadline = Math.max(arrivedAt + budget.totalMs, monotonicMs() + PLAN_MS);
    const timer = this.#at(id, deadline);
    this.#watched.set(id, { promptTokens: prompt.length, deadline, timer, firstTokenAt: null });
  }

  hear({ at, tokens }: StepMessage): void {
    if (this.#watched.size === 0) return;
    for (const { id } of tokens) {
      const watched = this.#watched.get(id);
      if (watched) watched.firstTokenAt ??= at;
    }
  }

  drop(id: string): void {
    clearTimeout(this.#watched.get(id)?.timer);
    this.#watched.delete(id);
  }

  clear(): void {
    for (const id of [...this.#watched.keys()]) this.drop(id);
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
    if (now < watched.deadline) {
      watched.timer = this.#at(id, watched.deadline);
      return;
    }
    this.drop(id);
    const { promptTokens, firstTokenAt } = watched;
    this.due({
      ...{ id, reason: 'deadline', error: null, promptTokens, cachedTokens: 0 },
      ...{ startedAt: null, firstTokenAt, endedAt: now, preemptions: 0 },
    });
  }
}
