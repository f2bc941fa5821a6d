/**
 * The positions that a step prefills.
 *
 * Must not know: which prompt goes on (prefill-choice.ts), decoding.
 */
import { advanceWork, frontierAt } from './cost/step-costs.js';
import type { CostModel, DepthShape, Work } from './cost/model.js';
import type { Sequence } from './sequence.js';
import type { SlotManager } from './slot-manager.js';
import type { PrefillChunk } from './types.js';

/** A chunk of one sequence, and its work. */
export interface ChunkWork {
  readonly sequence: Sequence;
  /** First position that the chunk leaves out. */
  readonly end: number;
  /** Positions of the unit that lacks most. */
  readonly positions: number;
  /** Those of them that the first stage lacks; the other units catch up over the rest. */
  readonly prefilled: number;
  readonly work: Work['prefill'];
}

export interface ChunkLimits {
  /** Most positions of each sequence. */
  readonly prefillChunk: number;
  /** Most positions of a step. */
  readonly mostPrefill: number;
}

/** A chunk of each prompt that the plan names. */
export function selectChunks(
  planned: readonly PrefillChunk[],
  slots: SlotManager,
  model: CostModel,
  { prefillChunk, mostPrefill }: ChunkLimits,
): ChunkWork[] {
  const chunks: ChunkWork[] = [];
  for (const { sequence, positions } of planned) {
    const ahead = chunks.map((chunk) => chunk.sequence);
    // The step's memory may have taken its slot.
    if (sequence.slot === null || slots.awaits(sequence, ahead)) continue;
    // The prompt starts from the prefix that another prompt has computed by this step.
    slots.share(sequence);
    chunks.push(chunkOf(sequence, Math.min(positions, prefillChunk), model));
  }
  return fitting(chunks, mostPrefill);
}

/** The next positions of a running sequence, at most `most`. */
export function chunkOf(sequence: Sequence, most: number, model: CostModel): ChunkWork {
  const { exit, frontiers, tokens } = sequence;
  const start = frontierAt(frontiers, exit, model);
  const end = chunkEnd(start, most, tokens.length - 1);
  const prefilled = Math.max(0, end - (frontiers[0] ?? 0));
  return { sequence, end, positions: end - start, prefilled, work: workTo(sequence, end, model) };
}

/** The work that advances a sequence to a position at its exit. */
export function workTo({ frontiers, exit }: Sequence, end: number, model: CostModel): Work['prefill'] {
  return advanceWork(frontiers, exit, end, model, Math.max(1, end - frontierAt(frontiers, exit, model)));
}

/** The first chunks, as many as run together. */
export function fitting(chunks: readonly ChunkWork[], most: number): ChunkWork[] {
  let positions = 0;
  const first = chunks.findIndex((chunk) => (positions += chunk.positions) > most);
  return chunks.slice(0, first < 0 ? chunks.length : Math.max(1, first));
}

/**
 * End of a chunk of at most `most` positions. The chunk leaves no single position for the next one: attention over one
 * position rounds differently than over several, and the answer must not depend on the chunk size.
 */
export function chunkEnd(start: number, most: number, target: number): number {
  const end = Math.min(start + most, target);
  return target - end === 1 && end - start > 2 ? end - 1 : end;
}

/** The work of chunks, and of the rows that decode behind them. */
export function workOf(chunks: readonly ChunkWork[], rows: readonly Sequence[], shape: DepthShape): Work {
  return { decode: decodeWork(rows, shape), prefill: chunks.flatMap(({ work }) => work) };
}

/** One position for each row; null without rows. */
export function decodeWork(rows: readonly Sequence[], { exits }: DepthShape): Work['decode'] {
  if (rows.length === 0) return null;
  const byExit = exits.map((_, exit) => rows.filter((row) => row.exit === exit).length);
  return { rows: byExit, context: rows.reduce((sum, { tokens }) => sum + tokens.length, 0) / rows.length };
}
