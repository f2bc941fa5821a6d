/**
 * Which prompt goes on in this step, and by how many positions: as many as no decoding neighbour has to pay for.
 *
 * Knows: live sequences, their pace and slack. Must not know: KV slots.
 */
import { batchOf, outlook, serviceDeadline, stretchOf } from './batch.js';
import { type Job, gapAt, stepsLeft } from './jobs.js';
import { type CostModel, predictMs } from './model.js';
import type { Policy, RouterState, SequenceState } from './types.js';

export interface Chunk {
  readonly id: string;
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

  const rows = new Int32Array(model.shape.exits.length);
  for (const job of decoding) rows[job.present] = (rows[job.present] ?? 0) + 1;
  const stepMs = batch.step(rows);
  const spare = spareMs(decoding, stepMs);
  const context = next.live?.frontier[0] ?? 0;
  const cost = (positions: number): number =>
    predictMs(model, { decode: null, prefill: [{ exit: next.present, positions, context, chunk: positions }] });
  let best = 0;
  for (const size of policy.chunks) {
    const ms = cost(Math.min(size, gap)) * (1 + policy.margin);
    if (ms > spare || (best > 0 && ms > policy.maxStallMs)) break;
    best = Math.min(size, gap);
    if (size >= gap) break;
  }
  if (best > 0) return { id: next.request.id, positions: best };
  // Nobody has time: the prompt waits, but not for ever.
  return due(next) <= now ? { id: next.request.id, positions: Math.min(gap, smallest) } : null;

  /** Milliseconds that every decoding sequence with a budget can wait in this step. */
  function spareMs(jobs: readonly Job[], ms: number): number {
    const bound = jobs.filter((job) => job.bound);
    const stretch = stretchOf(jobs, policy) * (1 + policy.margin);
    const future = outlook(
      batch,
      bound,
      bound.map((job) => job.min),
      stretch,
    );
    let least = Infinity;
    bound.forEach((job, i) => {
      const { deadlines, firstTokenAt, request } = job;
      const untilEnd = deadlines.end - (future.end[i] ?? now);
      // The mean pace so far must hold at the next token, since any token may be the last.
      const untilNext = (firstTokenAt ?? now) + deadlines.tpot * request.generated - now - ms;
      // Who misses anyway doesn't hold up others.
      if (untilEnd >= 0 && untilNext >= 0 && stepsLeft(job) > 0) least = Math.min(least, untilEnd, untilNext);
    });
    return least;
  }
}
