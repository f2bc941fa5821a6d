/**
 * Which prompt prefills in this step, and how many positions: as many as no earlier deadline has to pay for.
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
 * @returns null where nothing is to be prefilled, or where decoding sequences have no time for it
 */
export function choosePrefill(
  allocation: Allocation,
  paused: ReadonlySet<string>,
  isShareDue: boolean,
  isLive: (planned: PlannedRequest) => boolean,
): ChosenChunk | null {
  const { feasibility, state } = allocation;
  const { policy, model, engine, now } = state;
  const exitOf = (planned: PlannedRequest): number => feasibility.exitOf(planned);
  const rows = state.requests.filter((each) => each.live !== null && isLive(each));
  // A prompt that lacks only its last position decodes.
  const isPrompt = (each: PlannedRequest): boolean => each.isPrefilling && each.remainingPrefill(exitOf(each)) > 0;
  const prompts = rows.filter(isPrompt).sort((a, b) => (a.dueAt === b.dueAt ? 0 : a.dueAt - b.dueAt));
  const decoding = rows.filter((each) => !isPrompt(each) && !paused.has(each.request.id));
  const [first] = prompts;
  if (first === undefined) return null;
  const chunk = (prompt: PlannedRequest, size: number, shareMs = 0): ChosenChunk => {
    return { id: prompt.request.id, positions: Math.min(prompt.remainingPrefill(exitOf(prompt)), size), shareMs };
  };
  const largest = at(policy.chunks, policy.chunks.length - 1);
  // Where every row pauses, it pauses for a prompt with an earlier deadline.
  if (decoding.length === 0 && first.hasDeadline) return chunk(first, largest);

  const paceMs = stepSlack(allocation, decoding);
  const stallMs = decoding.length === 0 ? Infinity : policy.maxStallMs;
  // With every slot held and few rows decoding, hopeless deadlines would leave the machine half empty.
  const isSaturated = engine.live.length >= engine.slots && engine.waiting.length > 0;
  const isUnderfilled = isSaturated && decoding.length < policy.minBatchFill * engine.slots;
  for (const prompt of prompts) {
    const isDue = prompt.hasDeadline && !feasibility.dropped.has(prompt);
    const slackMs = isUnderfilled ? Infinity : feasibility.slackBefore(isDue ? prompt.dueAt : Infinity, prompt);
    const size = largestChunk(allocation, prompt, { paceMs, stallMs, slackMs });
    if (size > 0) return chunk(prompt, size);
    // A prompt waits for earlier deadlines, but no longer than its share of the machine would have taken for all of it.
    const planned = plannedChunk(policy);
    const aloneMs = (positions: number): number => promptMs(model, exitOf(prompt), positions, planned);
    const isStarving = virtualDeadline(prompt.request.arrivedAt, aloneMs(prompt.target), policy) <= now;
    if (isShareDue && !isDue && isStarving) return chunk(prompt, planned, aloneMs(planned));
  }
  return decoding.length === 0 ? chunk(first, largest) : null;
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
function largestChunk({ state, feasibility }: Allocation, prompt: PlannedRequest, limits: ChunkLimits): number {
  const { model, policy } = state;
  const exit = feasibility.exitOf(prompt);
  const gap = prompt.remainingPrefill(exit);
  let best = 0;
  let bearable = 0;
  for (const size of policy.chunks) {
    const positions = Math.min(size, gap);
    const upTo = prompt.target - gap + positions;
    const prefill = advanceWork(prompt.request.frontier, exit, upTo, model, positions);
    const ms = predictMs(model, { decode: null, prefill }) * (1 + policy.margin);
    if (ms > limits.paceMs || (bearable > 0 && ms > limits.stallMs)) break;
    bearable = positions;
    if (ms <= limits.slackMs) best = positions;
    if (size >= gap) break;
  }
  return best < Math.min(bearable, plannedChunk(policy)) ? 0 : best;
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
