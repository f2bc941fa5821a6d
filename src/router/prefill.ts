/**
 * Which prompt prefills in this step, and how many positions: as many as no earlier deadline has to pay for.
 */
import { predictMs } from '../cost/model.js';
import { promptMs } from '../cost/step-costs.js';
import type { DepthAllocation } from './depth.js';
import { isSaturated } from './planning-state.js';
import { plannedChunk } from './policy.js';
import { type PlannedRequest, advanceWork, byInstant, remainingPrefill, virtualDeadline } from './request.js';
import type { PrefillChunk } from './types.js';

interface Candidate {
  readonly i: number;
  readonly planned: PlannedRequest;
  readonly exit: number;
  readonly dueAt: number;
}

/** A chunk, and the time that it takes of the share of late requests; 0 where no earlier deadline pays for it. */
export interface ChosenChunk extends PrefillChunk {
  readonly shareMs: number;
}

/**
 * @param allocation of this step
 * @param paused ids of the sequences that skip this step
 * @param isShareDue whether a prompt that has waited for too long may go first
 * @param isLive whether a sequence still holds its slot and a prompt still lacks something: a plan may be some steps old
 * @returns null where nothing is to be prefilled, or where decoding sequences have no time for it
 */
export function choosePrefill(
  allocation: DepthAllocation,
  paused: ReadonlySet<string>,
  isShareDue: boolean,
  isLive: (planned: PlannedRequest) => boolean = () => true,
): ChosenChunk | null {
  const { feasibility, state, exits } = allocation;
  const { policy, model } = state;
  const { slots } = state.state;
  const prompts: Candidate[] = [];
  const decoding: number[] = [];
  state.requests.forEach((planned, i) => {
    if (planned.live === null || !isLive(planned)) return;
    const exit = exits[i] ?? planned.currentExit;
    // A prompt that lacks only its last position decodes.
    if (planned.isPrefilling && remainingPrefill(planned, exit, model) > 0) {
      prompts.push({ i, planned, exit, dueAt: state.dueAt(i) });
    } else if (!paused.has(planned.request.id)) decoding.push(i);
  });
  prompts.sort((a, b) => byInstant(a.dueAt, b.dueAt));
  const first = prompts[0];
  if (first === undefined) return null;
  const smallest = policy.chunks[0] ?? 1;
  const largest = policy.chunks.at(-1) ?? smallest;
  const chunk = ({ planned, exit }: Candidate, size: number, shareMs = 0): ChosenChunk => {
    return { id: planned.request.id, positions: Math.min(remainingPrefill(planned, exit, model), size), shareMs };
  };
  // Where every row pauses, it pauses for a prompt with an earlier deadline.
  if (decoding.length === 0 && first.planned.hasDeadline) return chunk(first, largest);

  const paceMs = stepSlack(allocation, decoding);
  const stallMs = decoding.length === 0 ? Infinity : policy.maxStallMs;
  // With every slot held and few rows decoding, hopeless deadlines would leave the machine half empty.
  const isUnderfilled = isSaturated(state.state) && decoding.length < policy.minBatchFill * slots;
  for (const candidate of prompts) {
    const { i, planned, dueAt } = candidate;
    const isDue = planned.hasDeadline && !feasibility.dropped.has(i);
    const slackMs = isUnderfilled ? Infinity : feasibility.slackBefore(isDue ? dueAt : Infinity, i);
    const size = largestChunk(allocation, candidate, { paceMs, stallMs, slackMs });
    if (size > 0) return chunk(candidate, size);
    // A prompt waits for earlier deadlines, but no longer than its share of the machine allows.
    if (isShareDue && !isDue && isStarving(allocation, candidate)) {
      const planned = plannedChunk(policy);
      return chunk(candidate, planned, promptMs(model, candidate.exit, planned, planned));
    }
  }
  return decoding.length === 0 ? chunk(first, largest) : null;
}

/** Whether a prompt has waited for longer than its share of the machine would have taken for all of it. */
function isStarving({ state }: DepthAllocation, { planned, exit }: Candidate): boolean {
  const { model, policy } = state;
  const aloneMs = promptMs(model, exit, planned.target, plannedChunk(policy));
  return virtualDeadline(planned.request.arrivedAt, aloneMs, policy) <= state.state.now;
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
function largestChunk(
  { state }: DepthAllocation,
  { planned, exit }: Candidate,
  { paceMs, stallMs, slackMs }: ChunkLimits,
): number {
  const { model, policy } = state;
  const gap = remainingPrefill(planned, exit, model);
  const { frontier } = planned.request;
  let best = 0;
  let bearable = 0;
  for (const size of policy.chunks) {
    const positions = Math.min(size, gap);
    const prefill = advanceWork(frontier, exit, planned.target - gap + positions, model, positions);
    const ms = predictMs(model, { decode: null, prefill }) * (1 + policy.margin);
    if (ms > paceMs || (bearable > 0 && ms > stallMs)) break;
    bearable = positions;
    if (ms <= slackMs) best = positions;
    if (size >= gap) break;
  }
  return best < Math.min(bearable, plannedChunk(policy)) ? 0 : best;
}

/**
 * Milliseconds that the TPOT of every decoding sequence allows in this step: its mean so far must hold at the next token,
 * since any token may be the last. A sequence that misses anyway delays no other.
 */
function stepSlack({ state, exits }: DepthAllocation, decoding: readonly number[]): number {
  const { now } = state.state;
  const rows = new Int32Array(state.exits);
  for (const i of decoding) rows[exits[i] ?? 0] = (rows[exits[i] ?? 0] ?? 0) + 1;
  const stepMs = state.step(rows);
  let least = Infinity;
  for (const i of decoding) {
    const { hasDeadline, deadlines, request } = state.at(i);
    const untilNext = (request.firstTokenAt ?? now) + deadlines.tpotMs * request.generated - now - stepMs;
    if (hasDeadline && untilNext >= 0) least = Math.min(least, untilNext);
  }
  return least;
}
