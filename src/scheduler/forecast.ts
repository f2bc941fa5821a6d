/**
 * The forecast: plays the present batch forward, step after step, as the engine would run it. Prompts prefill one after
 * the other by their deadlines, and every row decodes one token beside each chunk.
 *
 * Between two events (a prompt is done, a row ends, a deadline) all rows advance at one rate, so the play jumps
 * from event to event.
 */
import { type ExitIndex, at } from '../cost/model.js';
import { type ExitCost, StepSum } from '../cost/step-costs.js';

/** One request in the play, in tokens and in milliseconds from the present. */
export interface Player {
  /** Its prompt prefills in this order. */
  readonly dueAt: number;
  /** It ends here at the latest; Infinity where it goes on beyond its deadline. */
  readonly leavesAt: number;
  readonly exit: ExitIndex;
  /** Prefill that is left, and the chunks that it takes. */
  readonly setupMs: number;
  readonly chunks: number;
  /** Decode steps until its planned end, and those of them that a promise covers. */
  readonly tokens: number;
  readonly covered: number;
  readonly hasSlot: boolean;
  /** Its promise: the covered steps are due by then. Infinity without one. */
  readonly promisedBy: number;
}

/** How a request fares in the play; milliseconds from the present. */
export interface Played {
  /** Decode steps until it ended. */
  tokens: number;
  /** Infinity where no prompt was left to prefill, or where it never ended. */
  firstTokenAt: number;
  /** When it had the steps that a promise covers; Infinity where it never had. */
  coveredAt: number;
  endsAt: number;
}

interface Row extends Played {
  readonly player: Player;
  setupLeft: number;
}

/** Milliseconds and tokens that count as none. */
const NONE = 1e-6;

/** The rows that decode. The play takes most of the planning time, so their step is summed as they change. */
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
    this.#step.add(row.player.exit);
  }

  /** Milliseconds until the first of them ends, at most `most`. */
  untilEnd(most: number, t: number, cycleMs: number): number {
    let ms = most;
    for (const { player, tokens } of this.#rows) {
      ms = Math.min(ms, (player.tokens - tokens) * cycleMs, player.leavesAt - t);
    }
    return Math.max(0, ms);
  }

  /**
   * Milliseconds that a prompt may run beside them: until the promises of rows that are due before it have no time left. At
   * most 0: the prompt waits so long, to the end of such a promise.
   */
  roomFor({ player: { dueAt, exit } }: Row, t: number, cycleMs: number): number {
    const { stepMs } = this;
    const withIt = this.#step.with(exit);
    let [roomMs, coveredMs] = [Infinity, Infinity];
    for (const { player, coveredAt, tokens } of this.#rows) {
      if (player.promisedBy === Infinity || player.dueAt > dueAt || coveredAt < Infinity) continue;
      const [leftMs, steps] = [player.promisedBy - t, player.covered - tokens];
      // A promise that is late anyway holds up no prompt.
      if (leftMs < steps * stepMs) continue;
      coveredMs = Math.min(coveredMs, steps * stepMs);
      roomMs = Math.min(roomMs, ((leftMs - steps * withIt) * cycleMs) / Math.max(NONE, cycleMs - withIt));
    }
    return roomMs > NONE ? roomMs : -coveredMs;
  }

  /** Decodes from an instant to another. @returns how many rows ended */
  advance(from: number, to: number, steps: number, cycleMs: number): number {
    const rows = this.#rows;
    const before = rows.length;
    this.#step.clear();
    let going = 0;
    for (const row of rows) {
      const { covered, tokens, leavesAt } = row.player;
      if (row.coveredAt === Infinity && row.tokens + steps >= covered - NONE) {
        row.coveredAt = from + Math.max(0, covered - row.tokens) * cycleMs;
      }
      row.tokens += steps;
      if (tokens - row.tokens < NONE || leavesAt - to < NONE) {
        row.endsAt = to;
        continue;
      }
      rows[going] = row;
      going += 1;
      this.#step.add(row.player.exit);
    }
    rows.length = going;
    return before - going;
  }
}

/**
 * @param slots sequences that run at once
 * @param costs by exit
 * @returns by player
 */
export function play(players: readonly Player[], slots: number, costs: readonly ExitCost[]): Played[] {
  const all = players.map((player): Row => {
    const { setupMs: setupLeft } = player;
    return { player, setupLeft, tokens: 0, firstTokenAt: Infinity, coveredAt: Infinity, endsAt: Infinity };
  });
  const isRow = ({ player: { hasSlot, setupMs } }: Row): boolean => hasSlot && setupMs <= 0;
  const rows = new Rows(costs, all.filter(isRow));
  const prompts = all.filter((each) => !isRow(each)).sort((a, b) => compare(a.player.dueAt, b.player.dueAt));
  let taken = all.filter(({ player }) => player.hasSlot).length;
  for (let t = 0; ;) {
    taken -= dropLate(prompts, t);
    const nextEvent = Math.min(...prompts.map(({ player }) => player.leavesAt));
    const next = taken < slots ? 0 : prompts.findIndex(({ player }) => player.hasSlot);
    const prompt = prompts[next];
    if (prompt === undefined && rows.count === 0) {
      if (nextEvent === Infinity) break;
      t = nextEvent;
      continue;
    }
    let chunkMs = prompt === undefined ? 0 : prompt.player.setupMs / prompt.player.chunks;
    let cycleMs = Math.max(NONE, rows.stepMs + chunkMs);
    let ms = nextEvent - t;
    const roomMs = prompt === undefined ? Infinity : rows.roomFor(prompt, t, cycleMs);
    ms = Math.min(ms, Math.abs(roomMs));
    const isHeld = roomMs <= 0;
    if (isHeld) [chunkMs, cycleMs] = [0, Math.max(NONE, rows.stepMs)];
    else if (prompt !== undefined) ms = Math.min(ms, chunkMs > 0 ? (prompt.setupLeft / chunkMs) * cycleMs : 0);
    ms = rows.untilEnd(ms, t, cycleMs);
    const steps = ms / cycleMs;
    taken -= rows.advance(t, t + ms, steps, cycleMs);
    t += ms;
    if (prompt === undefined || isHeld) continue;
    prompt.setupLeft -= steps * chunkMs;
    if (prompt.setupLeft > NONE) continue;
    prompts.splice(next, 1);
    if (!prompt.player.hasSlot) taken += 1;
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
    const { leavesAt, hasSlot } = row.player;
    if (leavesAt - t > Math.max(NONE, row.setupLeft)) continue;
    row.endsAt = Math.max(t, leavesAt);
    prompts.splice(i, 1);
    if (hasSlot) slots += 1;
  }
  return slots;
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}
