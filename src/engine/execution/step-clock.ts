/**
 * Divides the time of the engine's cycle among the parts of a step (see StepWork.partMs).
 *
 * Must not know: what the parts do.
 */
import type { StepPart, PartMs } from '../../protocol/index.js';

export class StepClock {
  #part: StepPart = 'messages';
  #since: number | null = null;
  #ms: Record<StepPart, number> = noTime();
  readonly #now: () => number;

  /** @param now milliseconds on a monotonic clock */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Time from here on belongs to a part. @param at the time that the caller has read already */
  enter(part: StepPart, at = this.#now()): void {
    if (this.#since !== null) this.#ms[this.#part] += at - this.#since;
    this.#since = at;
    this.#part = part;
  }

  /** Runs work that belongs to a part, and returns to the part that was running. */
  run<T>(part: StepPart, work: () => T): T {
    const outer = this.#part;
    this.enter(part);
    try {
      return work();
    } finally {
      this.enter(outer);
    }
  }

  /** The milliseconds of each part since the last call. The running part goes on. */
  take(at = this.#now()): PartMs {
    this.enter(this.#part, at);
    const taken = this.#ms;
    this.#ms = noTime();
    return taken;
  }

  /** The loop is idle from here on: the time until the next `enter` belongs to no part. */
  rest(): void {
    this.#since = null;
    this.#ms = noTime();
  }
}

function noTime(): Record<StepPart, number> {
  return { planning: 0, memory: 0, prefill: 0, decode: 0, head: 0, sampling: 0, messages: 0 };
}
