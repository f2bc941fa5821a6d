/**
 * Which prompts prefill in this step, and how many positions: as many as no earlier deadline has to pay for.
 */
import { advanceWork } from '../cost/frontier.js';
import { at, predictMs } from '../cost/model.js';
import { promptMs } from '../cost/step-costs.js';
import type { Allocation } from './depth.js';
import { plannedChunk } from './policy.js';
import { type PlannedRequest, virtualDeadline } from './request.js';
import type { PrefillChunk } from './types.js';

/** A chunk, and the time that it takes of the share of late requests; 0 where no earlier deadline pays for it. */
export interface ChosenChunk extends PrefillChunk {
  readonly shareMs: number;
}

/**
 * @param paused ids of the sequences that skip this step
 * @param isShareDue whether a prompt that has waited for too long may go first
 * @param isLive whether a sequence still holds its slot and a prompt still lacks something: a plan may be some steps old
 * @returns one chunk of each chosen prompt, in order of service; none where nothing is to be prefilled, or where decoding
 * sequences have no time for it
 */
export function choosePrefill(
  allocation: Allocation,
  paused: ReadonlySet<string>,
  isShareDue: boolean,
  isLive: (planned: PlannedRequest) => boolean,
): ChosenChunk[] {
  const { feasibility, state } = allocation;
  const { policy, model, engine, now } = state;
  const exitOf = (planned: PlannedRequest): number => feasibility.exitOf(planned);
  const rows = state.requests.filter((each) => each.live !== null && isLive(each));
  // A prompt that lacks only its last position decodes.
  const isPrompt = (each: PlannedRequest): boolean => each.isPrefilling && each.remainingPrefill(exitOf(each)) > 0;
  const prompts = rows.filter(isPrompt).sort((a, b) => (a.dueAt === b.dueAt ? 0 : a.dueAt - b.dueAt));
  const decoding = rows.filter((each) => !isPrompt(each) && !paused.has(each.request.id));
  const [first] = prompts;
  if (first === undefined) return [];
  const chunk = (prompt: PlannedRequest, size: number, shareMs = 0): ChosenChunk => {
    return { id: prompt.request.id, positions: Math.min(prompt.remainingPrefill(exitOf(prompt)), size), shareMs };
  };
  const largest = at(policy.chunks, policy.chunks.length - 1);
  const paceMs = stepSlack(allocation, decoding);
  const withOthers = (prompt: PlannedRequest, size: number): ChosenChunk[] => {
    const chosen = chunk(prompt, size);
    if (state.hasDeadlines || followsAnother(prompt)) return [chosen];
    const others = prompts.filter((each) => each !== prompt);
    const limitMs = longestStall(allocation, decoding.length === 0 ? [prompt] : decoding);
    const leftMs = limitMs - chunkMs(allocation, prompt, chosen.positions);
    return [chosen, ...otherChunks(allocation, others, leftMs).map(([other, positions]) => chunk(other, positions))];
  };
  // Where every row pauses, it pauses for a prompt with an earlier deadline.
  if (decoding.length === 0 && first.hasDeadline) return withOthers(first, largest);

  const stallMs = decoding.length === 0 ? Infinity : longestStall(allocation, decoding);
  // With every slot held and few rows decoding, hopeless deadlines would leave the machine half empty.
  const isSaturated = engine.live.length >= engine.slots && engine.waiting.length > 0;
  const isUnderfilled = isSaturated && decoding.length < policy.minBatchFill * engine.slots;
  for (const prompt of prompts) {
    const isDue = prompt.hasDeadline && !feasibility.dropped.has(prompt);
    const slackMs = isUnderfilled ? Infinity : feasibility.slackBefore(isDue ? prompt.dueAt : Infinity, prompt);
    const size = largestChunk(allocation, prompt, { paceMs, stallMs, slackMs });
    if (size > 0) return withOthers(prompt, size);
    // A prompt waits for earlier deadlines, but no longer than its share of the machine would have taken for all of it.
    const planned = plannedChunk(policy);
    const aloneMs = (positions: number): number => promptMs(model, exitOf(prompt), positions, planned);
    const isStarving = virtualDeadline(prompt.request.arrivedAt, aloneMs(prompt.target), policy) <= now;
    if (isShareDue && !isDue && isStarving) return [chunk(prompt, planned, aloneMs(planned))];
  }
  return decoding.length === 0 ? withOthers(first, largest) : [];
}

/**
 * Further prompts of the step, in order of service, for so many milliseconds. The rows then decode once for several
 * prompts, which matters most for short ones. Deadlines are planned for one chunk a step, so no request may have one. A
 * chunk ends its prompt or has the planned size: smaller ones cost more per position. A prompt whose prefix another one
 * computes waits for it.
 */
function otherChunks(
  allocation: Allocation,
  others: readonly PlannedRequest[],
  leftMs: number,
): [PlannedRequest, number][] {
  const { state, feasibility } = allocation;
  const chunks: [PlannedRequest, number][] = [];
  let ms = 0;
  for (const other of others) {
    if (followsAnother(other)) continue;
    const positions = Math.min(other.remainingPrefill(feasibility.exitOf(other)), plannedChunk(state.policy));
    ms += chunkMs(allocation, other, positions);
    if (ms > leftMs) break;
    chunks.push([other, positions]);
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
function longestStall({ state, feasibility }: Allocation, rows: readonly PlannedRequest[]): number {
  const { maxStallMs, prefillShare } = state.policy;
  if (state.hasDeadlines) return maxStallMs;
  const stepMs = state.stepOf(rows.map((each) => feasibility.exitOf(each)));
  return Math.max(maxStallMs, (stepMs * prefillShare) / (1 - prefillShare));
}

/** Milliseconds of a prompt's next positions, with the margin. */
function chunkMs({ state, feasibility }: Allocation, prompt: PlannedRequest, positions: number): number {
  const { model, policy } = state;
  const exit = feasibility.exitOf(prompt);
  const upTo = prompt.target - prompt.remainingPrefill(exit) + positions;
  const prefill = advanceWork(prompt.request.frontier, exit, upTo, model, positions);
  return predictMs(model, { decode: null, prefill }) * (1 + policy.margin);
}

/** Limits of a chunk, ms: the TPOT of decoding rows, the stall that a client notices, the slack of earlier deadlines. */
interface ChunkLimits {
  readonly paceMs: number;
  readonly stallMs: number;
  readonly slackMs: number;
}

/**
 * Largest chunk within the limits, positions; 0 where none is. Small chunks cost more per position, so only pace and stall
 * make one smaller than plans assume: otherwise the prompt waits.
 */
function largestChunk(allocation: Allocation, prompt: PlannedRequest, limits: ChunkLimits): number {
  const { policy, hasDeadlines } = allocation.state;
  const gap = prompt.remainingPrefill(allocation.feasibility.exitOf(prompt));
  let best = 0;
  let bearable = 0;
  for (const size of hasDeadlines ? policy.chunks : withMiddles(policy.chunks)) {
    const positions = Math.min(size, gap);
    const ms = chunkMs(allocation, prompt, positions);
    if (ms > limits.paceMs || (bearable > 0 && ms > limits.stallMs)) break;
    bearable = positions;
    if (ms <= limits.slackMs) best = positions;
    if (size >= gap) break;
  }
  return best < Math.min(bearable, plannedChunk(policy)) ? 0 : best;
}

/** The sizes, and those half-way between: a chunk slightly beyond its limit then loses a quarter instead of half. */
function withMiddles(sizes: readonly number[]): number[] {
  return sizes.flatMap((size, i) => [size, ...sizes.slice(i + 1, i + 2).map((next) => (size + next) >> 1)]);
}

/**
 * Milliseconds that the TPOT of every decoding sequence allows in this step: its mean so far must hold at the next token,
 * since any token may be the last. A sequence that misses anyway delays no other.
 */
function stepSlack({ state, feasibility }: Allocation, decoding: readonly PlannedRequest[]): number {
  const { now } = state;
  const stepMs = state.stepOf(decoding.map((each) => feasibility.exitOf(each)));
  let least = Infinity;
  for (const { hasDeadline, deadlines, request } of decoding) {
    const untilNext = (request.firstTokenAt ?? now) + deadlines.tpotMs * request.generated - now - stepMs;
    if (hasDeadline && untilNext >= 0) least = Math.min(least, untilNext);
  }
  return least;
}
