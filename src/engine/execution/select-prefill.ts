/**
 * Positions that a step brings to where a sequence's exit needs them: catch-up, or a chunk of a prompt.
 *
 * Knows: sequences, what their exits need, what that costs. Must not know: which prompt goes on (router), decoding.
 */
import type { Work } from '../../cost/model.js';
import type { Executor } from './executor.js';
import type { RouterAdapter } from '../worker/router-adapter.js';
import type { Sequence } from '../sequence.js';

/** A run of positions of one sequence, and the work that it is. */
export interface PrefillTask {
  readonly sequence: Sequence;
  /** Where it ends. */
  readonly end: number;
  readonly work: Work['prefill'];
}

/** The next positions of a sequence, at most `most`. */
export function prefillTask(sequence: Sequence, most: number, executor: Executor, router: RouterAdapter): PrefillTask {
  const start = sequence.slot?.least(executor.exit(sequence.exit).needed) ?? 0;
  const end = chunkEnd(start, most, sequence.tokens.length - 1);
  return { sequence, end, work: router.advanceWork(sequence, end) };
}

/**
 * Those whose exit changed and whose units there lack more than the last position. All at once, since each sits out
 * until it has caught up: where many go to another exit block together, one a step would leave the rest idle.
 * @param chunk most positions of each
 * @param stallMs about as long as a step may take for it, beyond the first one
 */
export function catchUpTasks(
  running: readonly Sequence[],
  executor: Executor,
  router: RouterAdapter,
  chunk: number,
  stallMs: number,
): PrefillTask[] {
  const advances: PrefillTask[] = [];
  let ms = 0;
  for (const sequence of running) {
    const { slot, tokens, exit } = sequence;
    // Shorter than that it is a prompt; and who is where its exit needs it decodes.
    if (slot === null || slot.length < tokens.length - 1) continue;
    if (sequence.isDecodable(executor.exit(exit).needed)) continue;
    const next = prefillTask(sequence, chunk, executor, router);
    ms += router.predictMs({ decode: null, prefill: next.work });
    if (advances.length > 0 && ms > stallMs) break;
    advances.push(next);
  }
  return advances;
}

/**
 * Where a chunk from `start` ends that may have `most` positions. It leaves no single position for the next one:
 * attention over one position rounds otherwise than over several, and the answer must not depend on the chunk size.
 */
export function chunkEnd(start: number, most: number, target: number): number {
  const end = Math.min(start + most, target);
  return target - end === 1 && end - start > 2 ? end - 1 : end;
}
