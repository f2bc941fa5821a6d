/**
 * The forecast: runs the present batch forward, step after step, as the engine would. Prompts prefill one after
 * the other by their deadlines, and every row decodes one token beside each chunk.
 *
 * Between two events (a prompt is done, a row ends, a deadline) all rows advance at one rate, so the forecast
 * jumps from event to event.
 */
import { type ExitIndex, at } from '../cost/model.js';
import { type ExitCost, StepSum } from '../cost/step-costs.js';

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
  const all = entries.map((entry): Row => {
    const { prefillMs: prefillLeft } = entry;
    return { entry, prefillLeft, tokens: 0, firstTokenAt: Infinity, guaranteedAt: Infinity, endsAt: Infinity };
  });
  const isRow = ({ entry: { hasSlot, prefillMs } }: Row): boolean => hasSlot && prefillMs <= 0;
  const rows = new Rows(costs, all.filter(isRow));
  const prompts = all.filter((each) => !isRow(each)).sort((a, b) => compare(a.entry.dueAt, b.entry.dueAt));
  let taken = all.filter(({ entry }) => entry.hasSlot).length;
  for (let t = 0; ;) {
    taken -= dropLate(prompts, t);
    const nextEvent = Math.min(...prompts.map(({ entry }) => entry.leavesAt));
    const next = taken < slots ? 0 : prompts.findIndex(({ entry }) => entry.hasSlot);
    const prompt = prompts[next];
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
    prompts.splice(next, 1);
    if (!prompt.entry.hasSlot) taken += 1;
    rows.add(prompt);
    prompt.firstTokenAt = t + rows.stepMs;
  }
  return all;
}

/** Prompts that can't be in time leave. @returns how many slots they had */
function dropLate(prompts: Row[], t: number): number {
  let slots = 0;
  for (let i = prompts.length - 1; i >= 0; i -= 1) {
    const row = at(prompts, i);
    const { leavesAt, hasSlot } = row.entry;
    if (leavesAt - t > Math.max(NONE, row.prefillLeft)) continue;
    row.endsAt = Math.max(t, leavesAt);
    prompts.splice(i, 1);
    if (hasSlot) slots += 1;
  }
  return slots;
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}
