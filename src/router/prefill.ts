/**
 * Which prompts prefill in a step, and how many positions of each: in order of service, as long as the stall of decoding
 * rows allows.
 */
import { advanceWork } from '../cost/frontier.js';
import { at, predictMs } from '../cost/model.js';
import type { PlanningState } from './planning-state.js';
import { plannedChunk } from './policy.js';
import { inService } from './queue.js';
import type { PlannedRequest } from './request.js';
import type { PrefillChunk } from './types.js';

/** The exits in force in the step, and the sequences that skip it. */
export interface Chosen {
  readonly exitOf: (planned: PlannedRequest) => number;
  readonly paused: ReadonlySet<PlannedRequest>;
}

/**
 * @param isOtherDue whether a prompt without a deadline goes first, for its share of the machine
 * @returns one chunk of each chosen prompt, in order of service; none where nothing is to be prefilled, or where a
 * decoding row has no time for it
 */
export function choosePrefill(state: PlanningState, chosen: Chosen, isOtherDue: boolean): PrefillChunk[] {
  const { policy } = state;
  const left = (each: PlannedRequest): number => each.remainingPrefill(chosen.exitOf(each));
  const live = state.requests.filter((each) => each.live !== null);
  const prompts = inService(live.filter((each) => each.isPrefilling && left(each) > 0));
  const decoding = live.filter((each) => !prompts.includes(each) && !chosen.paused.has(each));
  const other = isOtherDue ? prompts.find(({ hasDeadline }) => !hasDeadline) : undefined;
  const ordered = other === undefined ? prompts : [other, ...prompts.filter((each) => each !== other)];
  const largest = at(policy.chunks, policy.chunks.length - 1);
  const stallMs = longestStall(state, chosen, decoding);
  const paceMs = stepSlack(state, chosen, decoding);
  const chunks: PrefillChunk[] = [];
  let ms = 0;
  for (const prompt of ordered) {
    if (chunks.length > 0 && followsAnother(prompt)) continue;
    const gap = left(prompt);
    const room = Math.min(stallMs, paceMs) - ms;
    const isAlone = decoding.length === 0 && chunks.length === 0;
    const positions = isAlone
      ? Math.min(gap, largest)
      : largestWithin(state, prompt, chosen, gap, chunks.length === 0 ? { stallMs: room, paceMs } : null, room);
    if (positions === 0) break;
    ms += chunkMs(state, prompt, chosen, positions);
    chunks.push({ id: prompt.request.id, positions });
    // Beside a deadline one prompt after the other ends: prompts that share the time would all be late.
    const least = state.hasDeadlines ? gap : Math.min(gap, plannedChunk(policy));
    if (positions < least || followsAnother(prompt)) break;
  }
  return chunks;
}

/** Whether another prompt is expected to compute a prefix of this one. */
function followsAnother({ request: { expectedFrontier, frontier } }: PlannedRequest): boolean {
  return expectedFrontier.some((positions, unit) => positions > (frontier[unit] ?? 0));
}

/**
 * Longest stall of decoding rows by the chunks of a step, ms. On a slow machine, a step of the rows alone may take most of
 * `--max-stall`; prompts then still get their share.
 */
function longestStall(state: PlanningState, { exitOf }: Chosen, rows: readonly PlannedRequest[]): number {
  const { maxStallMs, prefillShare } = state.policy;
  if (state.hasDeadlines) return maxStallMs;
  return Math.max(maxStallMs, (state.stepOf(rows.map(exitOf)) * prefillShare) / (1 - prefillShare));
}

/** Milliseconds of a prompt's next positions, with the margin. */
function chunkMs({ model, policy }: PlanningState, prompt: PlannedRequest, chosen: Chosen, positions: number): number {
  const exit = chosen.exitOf(prompt);
  const upTo = prompt.target - prompt.remainingPrefill(exit) + positions;
  const prefill = advanceWork(prompt.request.frontier, exit, upTo, model, positions);
  return predictMs(model, { decode: null, prefill }) * (1 + policy.margin);
}

/**
 * Most positions of a prompt's next chunk; 0 for none. Small chunks cost more per position, so a chunk is smaller than
 * plans assume only as the first one of its step. A further prompt ends in the step, or waits.
 */
function largestWithin(
  state: PlanningState,
  prompt: PlannedRequest,
  chosen: Chosen,
  gap: number,
  first: { readonly stallMs: number; readonly paceMs: number } | null,
  roomMs: number,
): number {
  if (first === null) {
    const positions = Math.min(gap, plannedChunk(state.policy));
    return chunkMs(state, prompt, chosen, positions) <= roomMs ? positions : 0;
  }
  let best = 0;
  for (const size of withMiddles(state.policy.chunks)) {
    const positions = Math.min(size, gap);
    const ms = chunkMs(state, prompt, chosen, positions);
    if (ms > first.paceMs || (best > 0 && ms > first.stallMs)) break;
    best = positions;
    if (size >= gap) break;
  }
  return best;
}

/** The sizes, and those half-way between: a chunk slightly beyond its limit then loses a quarter instead of half. */
function withMiddles(sizes: readonly number[]): number[] {
  return sizes.flatMap((size, i) => [size, ...sizes.slice(i + 1, i + 2).map((next) => (size + next) >> 1)]);
}

/**
 * Milliseconds that the decoding rows have left in this step. The TPOT of a row must hold at its next token, since any
 * token may be the last. A row that can't land needs its last steps in time. A row that is late anyway delays no prompt.
 */
function stepSlack(state: PlanningState, { exitOf }: Chosen, decoding: readonly PlannedRequest[]): number {
  const { now } = state;
  const stepMs = state.stepOf(decoding.map(exitOf));
  let least = Infinity;
  for (const each of decoding) {
    const { hasDeadline, deadlines, request } = each;
    if (!hasDeadline) continue;
    const untilNext = (request.firstTokenAt ?? now) + deadlines.tpotMs * request.generated - now - stepMs;
    if (untilNext >= 0) least = Math.min(least, untilNext);
    if (!request.isExactLength || deadlines.end === Infinity) continue;
    const untilEnd = deadlines.end - now - each.meanLeft(exitOf(each)) * stepMs * (1 + state.policy.margin);
    if (untilEnd >= 0) least = Math.min(least, untilEnd);
  }
  return least;
}
