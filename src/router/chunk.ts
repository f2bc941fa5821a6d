/**
 * Which prompt goes on in this step, and by how many positions: as many as no decoding neighbour has to pay for.
 *
 * Knows: live sequences, their pace and slack. Must not know: KV slots.
 */
import { type Batch, batchOf, outlook, serviceDeadline, shallowest, stretchOf } from './batch.js';
import { type Job, advanceWork, gapAt } from './jobs.js';
import { type CostModel, predictMs } from './model.js';
import { planChunk } from './policy.js';
import { lostOf } from './room.js';
import type { Policy, RouterState, SequenceState } from './types.js';

export interface Chunk {
  readonly id: string;
  /** Counted from the stage of its exit that is furthest behind; stages that are there already do nothing. */
  readonly positions: number;
}

/**
 * @param sequences the live ones, with the exits of this step
 * @returns null where nothing is to be prefilled, or where decoding sequences have no time for it
 */
export function chooseChunk(
  sequences: readonly SequenceState[],
  state: RouterState,
  model: CostModel,
  policy: Policy,
): Chunk | null {
  const batch = batchOf({ ...state, live: sequences }, [], model, policy);
  const { now } = state;
  const due = (job: Job): number => serviceDeadline(job, now, model, policy);
  const next = batch.jobs.filter((job) => job.prefilling).sort((a, b) => due(a) - due(b))[0];
  if (next === undefined) return null;
  const gap = gapAt(next, next.present, model);
  const decoding = batch.jobs.filter((job) => !job.prefilling);
  const smallest = policy.chunks[0] ?? 1;
  const most = policy.chunks.at(-1) ?? smallest;
  if (decoding.length === 0) return { id: next.request.id, positions: Math.min(gap, most) };

  const frontier = next.live?.frontier ?? [];
  const cost = (positions: number): number =>
    predictMs(model, {
      decode: null,
      prefill: advanceWork(frontier, next.present, next.target - gap + positions, model, positions),
    });
  const pace = paceMs(batch, decoding);
  const spare = spareMs(batch, decoding);
  let best = 0;
  for (const size of policy.chunks) {
    const ms = cost(Math.min(size, gap)) * (1 + policy.margin);
    // The chunks that the prompt's own promise was weighed with are not weighed again.
    const weighed = next.bound && size <= planChunk(policy);
    if (ms > pace || (!weighed && ms > spare) || (best > 0 && ms > policy.maxStallMs)) break;
    best = Math.min(size, gap);
    if (size >= gap) break;
  }
  if (best > 0) return { id: next.request.id, positions: best };
  // Nobody has time: the prompt waits, but not for ever.
  return due(next) <= now ? { id: next.request.id, positions: Math.min(gap, smallest) } : null;
}

/**
 * Milliseconds that the pace of every decoding sequence can bear in this step: the mean so far must hold at the next
 * token, since any token may be the last. Who misses anyway doesn't hold up others.
 */
function paceMs({ state, model, step }: Batch, decoding: readonly Job[]): number {
  const rows = new Int32Array(model.shape.exits.length);
  for (const job of decoding) rows[job.present] = (rows[job.present] ?? 0) + 1;
  const stepMs = step(rows);
  let least = Infinity;
  for (const { bound, firstTokenAt, deadlines, request } of decoding) {
    const untilNext = (firstTokenAt ?? state.now) + deadlines.tpot * request.generated - state.now - stepMs;
    if (bound && untilNext >= 0) least = Math.min(least, untilNext);
  }
  return least;
}

/** Milliseconds that every decoding sequence can lose and still end in time. */
function spareMs(batch: Batch, decoding: readonly Job[]): number {
  const bound = decoding.filter((job) => job.bound);
  const lost = lostOf(batch, bound);
  const { end } = outlook(batch, bound, shallowest, stretchOf(batch.jobs, batch.policy));
  let least = Infinity;
  bound.forEach((job, i) => {
    const until = job.deadlines.end - (end[i] ?? batch.state.now);
    if (!lost.has(job)) least = Math.min(least, Math.max(0, until));
  });
  return least;
}
