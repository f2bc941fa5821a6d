/**
 * The account of nets: each is a conditional promise, and failures are correlated, so all of them together must fit.
 *
 * Every upstream may fail at any instant, and then all nets that have not begun start. A new net is booked if its own
 * latest start is not past, and if it moves no other start into the past. A net that runs keeps its part until it ends,
 * as a promise to a request of no net does. Its start may move back to the instant of its begin. The forecast of a new
 * net has both already.
 *
 * Must not know: clocks, timers, requests.
 */
import type { PromisedPart } from '../../protocol/index.js';
import { startsByPart } from '../../protocol/latest-starts.js';

/** A net in the account. */
export interface Booking {
  /** An instant. It moves as other nets come. */
  readonly latestStart: number;
  /** The net runs, and has no latest start any more. */
  began(at: number): void;
  /** Gives the part back. */
  end(): void;
}

/** The engine at the forecast of a net. */
export interface EngineState {
  readonly now: number;
  /** Sequences that it runs at once. */
  readonly slots: number;
  /** Promises to requests of no net; absent: none. */
  readonly direct?: readonly PromisedPart[];
}

interface Entry extends PromisedPart {
  readonly moved: () => void;
  latestStart: number;
  /** Null: it waits. */
  beganAt: number | null;
}

/** A net, or a promise to a request of no net, which runs. */
type Held = PromisedPart & Pick<Entry, 'beganAt'>;

/** Nets, and answers without a promise. Beside more of them no further answer without a promise begins. */
const FEW = 3;

/** A refusal beside many nets holds so long, for answers that end at most so much later. ms */
const REFUSED_MS = 50;

export class NetAccount {
  #refused = { at: -Infinity, endsAt: -Infinity };
  #entries: Entry[] = [];
  readonly #own = new WeakMap<Booking, readonly Entry[]>();
  #tries = 0;

  get count(): number {
    return this.#entries.length;
  }

  /** There was no room for a net. @param endsAt the end of its answer */
  refused(endsAt: number, now: number): void {
    if (this.#entries.length > FEW) this.#refused = { at: now, endsAt };
  }

  /** Whether a net needs no forecast, which takes milliseconds: one that is due as late had no room a moment ago. */
  isRefused(endsAt: number, now: number): boolean {
    const { at, endsAt: refusedEndsAt } = this.#refused;
    return now - at < REFUSED_MS && endsAt <= refusedEndsAt + REFUSED_MS;
  }

  /** An answer without a promise begins, while there are few others. @returns ends it; null: there are too many */
  try(): (() => void) | null {
    if (this.#entries.length + this.#tries > FEW) return null;
    this.#tries += 1;
    return () => {
      this.#tries -= 1;
    };
  }

  /**
   * Books a net.
   * @param parts of its choices
   * @param moved is called at each new latest start, but for the first one
   * @param replaced ends, if the new one fits in its place
   * @returns null: it does not fit beside the others
   */
  book(
    parts: readonly PromisedPart[],
    { now, slots, direct = [] }: EngineState,
    moved: () => void,
    replaced: Booking | null = null,
  ): Booking | null {
    const ending = (replaced && this.#own.get(replaced)) ?? [];
    const kept = this.#entries.filter((each) => !ending.includes(each));
    const own = parts.map((part): Entry => ({ ...part, moved, latestStart: -Infinity, beganAt: null }));
    const waiting = kept.filter(({ beganAt }) => beganAt === null);
    const starts = startsByPart([...waiting, ...own], slots);
    for (const each of own) each.latestStart = starts.get(each) ?? -Infinity;
    const latestStart = (): number => Math.min(...own.map((each) => each.latestStart));
    if (latestStart() < now) return null;
    const entries = [...kept, ...own];
    const running = direct.map((each): Held => ({ ...each, beganAt: now }));
    const others: readonly Held[] = [...kept, ...running];
    const before = startsByPart(others, slots);
    const beside = startsByPart<Held>([...entries, ...running], slots);
    const isHarmed = (each: Held): boolean => {
      const start = beside.get(each) ?? Infinity;
      const old = before.get(each) ?? Infinity;
      // A net that waits beside promises may have no time left. It gets no less.
      return start < (each.beganAt ?? now) && (each.beganAt === null ? start < old : old >= each.beganAt);
    };
    if (others.some(isHarmed)) return null;
    this.#entries = entries;
    const after = startsByPart(entries, slots);
    for (const each of waiting) {
      const start = after.get(each) ?? each.latestStart;
      if (start === each.latestStart) continue;
      each.latestStart = start;
      each.moved();
    }
    const booking = {
      get latestStart() {
        return latestStart();
      },
      began: (at: number) => {
        for (const each of own) each.beganAt = at;
      },
      end: () => {
        this.#entries = this.#entries.filter((each) => !own.includes(each));
      },
    };
    this.#own.set(booking, own);
    return booking;
  }
}
