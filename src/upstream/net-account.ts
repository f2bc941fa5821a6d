/**
 * The account of nets: each is a conditional promise, and failures are correlated, so all of them together must fit.
 *
 * The rule. Every upstream may fail at any instant, and then all nets that have not begun start. The engine serves
 * their prompts in the order of their deadlines, and decodes up to `slots` of them at once. So the sentence of a net
 * takes its own time beside `n` others, `sentenceMs + besideMs * n`, and two further times. One is that of the nets
 * that start with it and are due before it. It sums their prompts (`prefillMs`) as long as all have slots, else their
 * parts of a full engine (`fullMs`). The other is that of the prompts that are due behind it, at most one a slot: the
 * engine holds further ones for rows that are due first. The latest start of a net is the last instant of a start
 * together with all nets that are due behind it, with each of them in time. A new net is booked if its own start is
 * not past, and if it moves no other start into the past. A net that runs keeps its part until it ends, and its start
 * may move back to the instant of its begin. The forecast of a new net has the running ones already.
 *
 * Must not know: clocks, timers, requests.
 */

/** The figures of a net, from the forecast of the engine. Instants are on the monotonic clock, times in ms. */
export interface NetPart {
  /** The end of its sentence, at the latest. */
  readonly dueAt: number;
  readonly sentenceMs: number;
  readonly prefillMs: number;
  readonly fullMs: number;
  readonly besideMs: number;
}

/** The latest starts of nets, which are due in this order. @param slots sequences that the engine runs at once */
export function latestStarts(parts: readonly NetPart[], slots: number): number[] {
  const beside = Math.max(0, Math.min(parts.length, slots) - 1);
  /** Sums of the parts before an index. */
  const prompts = sumsOf(parts.map(({ prefillMs }) => prefillMs));
  const fulls = sumsOf(parts.map(({ fullMs }) => fullMs));
  const between = (sums: readonly number[], from: number, to: number): number => (sums[to] ?? 0) - (sums[from] ?? 0);
  const behind = parts.map((_, i) => between(prompts, i + 1, Math.min(parts.length, i + 1 + beside)));
  return parts.map((_, first) => {
    let latest = Infinity;
    for (let i = first; i < parts.length; i += 1) {
      const part = parts[i];
      if (part === undefined) break;
      const before = between(i - first < slots ? prompts : fulls, first, i);
      const ownMs = part.sentenceMs + part.besideMs * beside;
      latest = Math.min(latest, part.dueAt - before - ownMs - (behind[i] ?? 0));
    }
    return latest;
  });
}

/** The sum of the values before each index, and of all. */
function sumsOf(values: readonly number[]): number[] {
  const sums = [0];
  for (const value of values) sums.push((sums.at(-1) ?? 0) + value);
  return sums;
}

/** A net in the account. */
export interface Booking {
  /** An instant. It moves as other nets come. */
  readonly latestStart: number;
  /** The net runs, and has no latest start any more. */
  began(at: number): void;
  /** Gives the part back. */
  end(): void;
}

interface Entry {
  readonly part: NetPart;
  readonly moved: (latestStart: number) => void;
  latestStart: number;
  /** Null: it waits. */
  beganAt: number | null;
}

export class NetAccount {
  /** In the order of deadlines. */
  #entries: Entry[] = [];

  get count(): number {
    return this.#entries.length;
  }

  /**
   * Books a net.
   * @param slots sequences that the engine runs at once
   * @param moved is called with each new latest start, but for the first one
   * @returns null: it does not fit beside the others
   */
  book(part: NetPart, now: number, slots: number, moved: (latestStart: number) => void): Booking | null {
    const entry: Entry = { part, moved, latestStart: -Infinity, beganAt: null };
    const waiting = this.#entries.filter(({ beganAt }) => beganAt === null);
    entry.latestStart = startsOf(inOrder(waiting, entry), slots).get(entry) ?? -Infinity;
    if (entry.latestStart < now) return null;
    const entries = inOrder(this.#entries, entry);
    const before = startsOf(this.#entries, slots);
    const after = startsOf(entries, slots);
    const isPast = (starts: ReadonlyMap<Entry, number>, each: Entry): boolean =>
      (starts.get(each) ?? Infinity) < (each.beganAt ?? now);
    if (this.#entries.some((each) => isPast(after, each) && !isPast(before, each))) return null;
    this.#entries = entries;
    for (const each of waiting) {
      const start = after.get(each) ?? each.latestStart;
      if (start === each.latestStart) continue;
      each.latestStart = start;
      each.moved(start);
    }
    return {
      get latestStart() {
        return entry.latestStart;
      },
      began: (at) => {
        entry.beganAt = at;
      },
      end: () => {
        this.#entries = this.#entries.filter((each) => each !== entry);
      },
    };
  }
}

/** @param entries in the order of deadlines @returns them with one more */
function inOrder(entries: readonly Entry[], entry: Entry): Entry[] {
  const behind = entries.findIndex(({ part }) => part.dueAt > entry.part.dueAt);
  return entries.toSpliced(behind < 0 ? entries.length : behind, 0, entry);
}

function startsOf(entries: readonly Entry[], slots: number): ReadonlyMap<Entry, number> {
  const starts = latestStarts(
    entries.map(({ part }) => part),
    slots,
  );
  return new Map(entries.map((each, i) => [each, starts[i] ?? -Infinity]));
}
