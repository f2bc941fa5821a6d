/**
 * The forecast: plays the present batch forward, step after step, as the engine would run it. Prompts prefill one after
 * the other by their deadlines, and every row decodes one token beside each chunk.
 *
 * Between two events (a prompt is done, a row ends, a deadline) all rows advance at one rate, so the play jumps
 * from event to event.
 */
import { type ExitIndex, at } from '../cost/model.js';
import type { ExitCost } from '../cost/step-costs.js';

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
  readonly covered?: number;
  readonly hasSlot: boolean;
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

interface Row {
  readonly player: Player;
  readonly played: Played;
  setupLeft: number;
}

/** Milliseconds and tokens that count as none. */
const NONE = 1e-6;

/**
 * @param slots sequences that run at once
 * @param costs by exit
 * @returns by player
 */
export function play(players: readonly Player[], slots: number, costs: readonly ExitCost[]): Played[] {
  const all = players.map((player): Row => {
    return {
      player,
      played: { tokens: 0, firstTokenAt: Infinity, coveredAt: Infinity, endsAt: Infinity },
      setupLeft: player.setupMs,
    };
  });
  const isRow = ({ player }: Row): boolean => player.hasSlot && player.setupMs <= 0;
  let rows = all.filter(isRow);
  const prompts = all.filter((each) => !isRow(each)).sort((a, b) => compare(a.player.dueAt, b.player.dueAt));
  let taken = all.filter(({ player }) => player.hasSlot).length;
  const stepMs = (): number => {
    let [fixedMs, rowsMs] = [0, 0];
    for (const { player } of rows) {
      const cost = at(costs, player.exit);
      if (cost.fixedMs > fixedMs) fixedMs = cost.fixedMs;
      rowsMs += cost.rowMs;
    }
    return fixedMs + rowsMs;
  };
  const end = (row: Row, at: number): void => {
    row.played.endsAt = at;
    taken -= 1;
  };

  for (let t = 0; ;) {
    // Prompts that can't be in time leave.
    for (let i = prompts.length - 1; i >= 0; i -= 1) {
      const row = at(prompts, i);
      if (row.player.leavesAt - t > Math.max(NONE, row.setupLeft)) continue;
      if (row.player.hasSlot) taken -= 1;
      row.played.endsAt = Math.max(t, row.player.leavesAt);
      prompts.splice(i, 1);
    }
    const next = prompts.findIndex(({ player }) => player.hasSlot || taken < slots);
    const prompt = prompts[next];
    let nextEvent = Infinity;
    for (const { player } of prompts) nextEvent = Math.min(nextEvent, player.leavesAt);
    if (prompt === undefined && rows.length === 0) {
      if (nextEvent === Infinity) break;
      t = nextEvent;
      continue;
    }
    const chunkMs = prompt === undefined ? 0 : prompt.player.setupMs / prompt.player.chunks;
    const cycleMs = Math.max(NONE, stepMs() + chunkMs);
    let ms = nextEvent - t;
    if (prompt !== undefined) ms = Math.min(ms, chunkMs > 0 ? (prompt.setupLeft / chunkMs) * cycleMs : 0);
    for (const { player, played } of rows) {
      ms = Math.min(ms, (player.tokens - played.tokens) * cycleMs, player.leavesAt - t);
    }
    ms = Math.max(0, ms);
    const steps = ms / cycleMs;
    t += ms;
    const going: Row[] = [];
    for (const row of rows) {
      const { covered = Infinity } = row.player;
      const isCovered = row.played.tokens + steps >= covered - NONE && row.played.coveredAt === Infinity;
      if (isCovered) row.played.coveredAt = t - ms + Math.max(0, covered - row.played.tokens) * cycleMs;
      row.played.tokens += steps;
      if (row.player.tokens - row.played.tokens < NONE || row.player.leavesAt - t < NONE) end(row, t);
      else going.push(row);
    }
    rows = going;
    if (prompt === undefined) continue;
    prompt.setupLeft -= steps * chunkMs;
    if (prompt.setupLeft > NONE) continue;
    prompts.splice(next, 1);
    if (!prompt.player.hasSlot) taken += 1;
    rows.push(prompt);
    prompt.played.firstTokenAt = t + stepMs();
    if (prompt.player.tokens > 0) continue;
    prompt.played.coveredAt = t;
    end(rows.pop() ?? prompt, t);
  }
  return all.map(({ played }) => played);
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}
