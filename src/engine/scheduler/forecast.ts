/**
 * The forecast: runs the present batch forward, step after step, as the engine would. Prompts prefill one after
 * the other by their deadlines, and every row decodes one token beside each chunk.
 *
 * Between two events (a prompt is done, a row ends, a deadline) all rows advance at one rate, so the forecast
 * jumps from event to event.
 */
import type { ExitIndex } from './cost/model.js';
import { type ExitCost, StepSum } from './cost/step-costs.js';

/** One request in the forecast, in tokens and in milliseconds from the present. */
export interface BatchEntry {
  /** Its prompt prefills in this order. */
  readonly dueAt: number;
  /** It ends here at the latest; Infinity where it goes on beyond its deadline. */
  readonly leavesAt: number;
  readonly exit: ExitIndex;
  /** Prefill that is left, and the chunks that it takes. */
  readonly prefillMs: number;
  readonly chunks: number;
  /** Decode steps until its planned end, and those of them that a promise covers. */
  readonly tokens: number;
  readonly guaranteedTokens: number;
  readonly hasSlot: boolean;
  /** Its promise: the guaranteedTokens steps are due by then. Infinity without one. */
  readonly promisedBy: number;
}

/** How a request fares in the forecast; milliseconds from the present. */
export interface BatchOutcome {
  /** Decode steps until it ended. */
  tokens: number;
  /** Infinity where no prompt was left to prefill, or where it never ended. */
  firstTokenAt: number;
  /** When it had the steps that a promise covers; Infinity where it never had. */
  guaranteedAt: number;
  endsAt: number;
}

interface Row extends BatchOutcome {
  readonly entry: BatchEntry;
  prefillLeft: number;
  /** It waits or prefills. */
  isPrompt: boolean;
}

/** Milliseconds and tokens that count as none. */
const NONE = 1e-6;

/** The rows that decode. The forecast takes most of the planning time, so their step is summed as they change. */
class Rows {
  readonly #rows: Row[] = [];
  readonly #step: StepSum;

  constructor(costs: readonly ExitCost[], rows: readonly Row[]) {
    this.#step = new StepSum(costs);
    for (const row of rows) this.add(row);
  }

  get count(): number {
    return this.#rows.length;
  }

  /** Milliseconds of a step. */
  get stepMs(): number {
    return this.#step.ms;
  }

  add(row: Row): void {
    this.#rows.push(row);
    this.#step.add(row.entry.exit);
  }

  /** Milliseconds until the first of them ends, at most `most`. */
  untilEnd(most: number, t: number, cycleMs: number): number {
    let ms = most;
    for (const { entry, tokens } of this.#rows) {
      ms = Math.min(ms, (entry.tokens - tokens) * cycleMs, entry.leavesAt - t);
    }
    return Math.max(0, ms);
  }

  /**
   * Milliseconds that a prompt may run beside them: until the promises of rows that are due before it have no time
   * left. A result of 0 or less is a wait: its absolute value in ms before the next chunk.
   */
  roomFor({ entry: { dueAt, exit } }: Row, t: number, cycleMs: number): number {
    const { stepMs } = this;
    const withIt = this.#step.with(exit);
    let roomMs = Infinity;
    let guaranteedMs = Infinity;
    for (const { entry, guaranteedAt, tokens } of this.#rows) {
      if (entry.promisedBy === Infinity || entry.dueAt > dueAt || guaranteedAt < Infinity) continue;
      const leftMs = entry.promisedBy - t;
      const steps = entry.guaranteedTokens - tokens;
      // A promise that is late anyway holds up no prompt.
      if (leftMs < steps * stepMs) continue;
      guaranteedMs = Math.min(guaranteedMs, steps * stepMs);
      roomMs = Math.min(roomMs, ((leftMs - steps * withIt) * cycleMs) / Math.max(NONE, cycleMs - withIt));
    }
    return roomMs > NONE ? roomMs : -guaranteedMs;
  }

  /** Decodes from an instant to another. @returns how many rows ended */
  advance(from: number, to: number, steps: number, cycleMs: number): number {
    const rows = this.#rows;
    const before = rows.length;
    this.#step.clear();
    let going = 0;
    for (const row of rows) {
      const { guaranteedTokens, tokens, leavesAt } = row.entry;
      if (row.guaranteedAt === Infinity && row.tokens + steps >= guaranteedTokens - NONE) {
        row.guaranteedAt = from + Math.max(0, guaranteedTokens - row.tokens) * cycleMs;
      }
      row.tokens += steps;
      if (tokens - row.tokens < NONE || leavesAt - to < NONE) {
        row.endsAt = to;
        continue;
      }
      rows[going] = row;
      going += 1;
      this.#step.add(row.entry.exit);
    }
    rows.length = going;
    return before - going;
  }
}

/** Prompts in an order that never changes. A prompt that is gone stays in it until its turn. */
class Queue {
  #first = 0;

  constructor(private readonly rows: readonly Row[]) {}

  get first(): Row | undefined {
    let row = this.rows[this.#first];
    while (row?.isPrompt === false) row = this.rows[++this.#first];
    return row;
  }
}

/** The prompts that wait or prefill. */
class Prompts {
  readonly #held: Queue;
  readonly #queued: Queue;
  readonly #byLeaving: Queue;
  /** The prompts that leave at a deadline. */
  #leaving: Row[];
  /** No prompt is late before this instant. A prompt that prefills is late later. */
  #lateFrom = -Infinity;

  constructor(prompts: readonly Row[]) {
    const byDue = [...prompts].sort((a, b) => compare(a.entry.dueAt, b.entry.dueAt));
    this.#held = new Queue(byDue.filter(({ entry }) => entry.hasSlot));
    this.#queued = new Queue(byDue.filter(({ entry }) => !entry.hasSlot));
    this.#leaving = prompts.filter(({ entry }) => entry.leavesAt < Infinity);
    this.#byLeaving = new Queue([...this.#leaving].sort((a, b) => a.entry.leavesAt - b.entry.leavesAt));
  }

  /** The instant at which the next one leaves. */
  get leavesAt(): number {
    return this.#byLeaving.first?.entry.leavesAt ?? Infinity;
  }

  /** The prompt that prefills. @param mayStart whether a slot is free */
  next(mayStart: boolean): Row | undefined {
    const held = this.#held.first;
    const queued = mayStart ? this.#queued.first : undefined;
    if (held === undefined || queued === undefined) return held ?? queued;
    return queued.entry.dueAt < held.entry.dueAt ? queued : held;
  }

  /** Prompts that can't be in time leave. @returns how many slots they had */
  dropLate(t: number): number {
    if (t < this.#lateFrom) return 0;
    let slots = 0;
    this.#lateFrom = Infinity;
    this.#leaving = this.#leaving.filter((row) => {
      if (!row.isPrompt) return false;
      const { leavesAt, hasSlot } = row.entry;
      const least = Math.max(NONE, row.prefillLeft);
      if (leavesAt - t > least) {
        this.#lateFrom = Math.min(this.#lateFrom, leavesAt - least);
        return true;
      }
      row.endsAt = Math.max(t, leavesAt);
      row.isPrompt = false;
      if (hasSlot) slots += 1;
      return false;
    });
    return slots;
  }
}

function rowOf(entry: BatchEntry): Row {
  const { hasSlot, prefillMs: prefillLeft } = entry;
  const isPrompt = !hasSlot || prefillLeft > 0;
  return { entry, prefillLeft, isPrompt, tokens: 0, firstTokenAt: Infinity, guaranteedAt: Infinity, endsAt: Infinity };
}

/**
 * @param slots sequences that run at once
 * @param costs by exit
 * @returns by entry, in their order
 */
export function forecastBatch(
  entries: readonly BatchEntry[],
  slots: number,
  costs: readonly ExitCost[],
): BatchOutcome[] {
  const all = entries.map(rowOf);
  const rows = new Rows(
    costs,
    all.filter(({ isPrompt }) => !isPrompt),
  );
  const prompts = new Prompts(all.filter(({ isPrompt }) => isPrompt));
  let taken = all.filter(({ entry }) => entry.hasSlot).length;
  for (let t = 0; ;) {
    taken -= prompts.dropLate(t);
    const nextEvent = prompts.leavesAt;
    const prompt = prompts.next(taken < slots);
    if (prompt === undefined && rows.count === 0) {
      if (nextEvent === Infinity) break;
      t = nextEvent;
      continue;
    }
    let chunkMs = prompt === undefined ? 0 : prompt.entry.prefillMs / prompt.entry.chunks;
    let cycleMs = Math.max(NONE, rows.stepMs + chunkMs);
    let ms = nextEvent - t;
    const roomMs = prompt === undefined ? Infinity : rows.roomFor(prompt, t, cycleMs);
    ms = Math.min(ms, Math.abs(roomMs));
    const isHeld = roomMs <= 0;
    if (isHeld) [chunkMs, cycleMs] = [0, Math.max(NONE, rows.stepMs)];
    else if (prompt !== undefined) ms = Math.min(ms, chunkMs > 0 ? (prompt.prefillLeft / chunkMs) * cycleMs : 0);
    ms = rows.untilEnd(ms, t, cycleMs);
    const steps = ms / cycleMs;
    taken -= rows.advance(t, t + ms, steps, cycleMs);
    t += ms;
    if (prompt === undefined || isHeld) continue;
    prompt.prefillLeft -= steps * chunkMs;
    if (prompt.prefillLeft > NONE) continue;
    prompt.isPrompt = false;
    if (!prompt.entry.hasSlot) taken += 1;
    rows.add(prompt);
    prompt.firstTokenAt = t + rows.stepMs;
  }
  return all;
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}
