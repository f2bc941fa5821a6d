/**
 * Selects positions for a step to prefill: a catch-up, or a chunk of a prompt.
 *
 * Must not know: which prompt goes on (the router selects it), decoding.
 */
import type { Work } from '../../cost/model.js';
import type { Executor } from './executor.js';
import type { RouterAdapter } from '../worker/router-adapter.js';
import type { Sequence } from '../sequence.js';

/** A run of positions of one sequence, and its work. */
export interface PrefillTask {
  readonly sequence: Sequence;
  readonly positions: number;
  /** First position that the task leaves out. */
  readonly end: number;
  readonly work: Work['prefill'];
}

/** The next positions of a sequence, at most `most`. */
export function prefillTask(sequence: Sequence, most: number, executor: Executor, router: RouterAdapter): PrefillTask {
  const start = sequence.slot?.least(executor.exit(sequence.exit).needed) ?? 0;
  const end = chunkEnd(start, most, sequence.tokens.length - 1);
  return { sequence, positions: end - start, end, work: router.advanceWork(sequence, end) };
}

/**
 * Catch-ups of sequences whose exit changed and whose units there lack more than the last position. A sequence does not
 * decode until it has caught up. So several catch-ups share a step when many sequences change their exit block together.
 * @param chunk most positions of each sequence
 * @param stallMs approximate time limit of all catch-ups after the first
 */
export function catchUpTasks(
  running: readonly Sequence[],
  executor: Executor,
  router: RouterAdapter,
  chunk: number,
  stallMs: number,
): PrefillTask[] {
  const tasks: PrefillTask[] = [];
  let ms = 0;
  for (const sequence of running) {
    const { slot, tokens, exit } = sequence;
    // A shorter slot belongs to a prompt, and a sequence that has the positions its exit needs decodes.
    if (slot === null || slot.length < tokens.length - 1) continue;
    if (sequence.isDecodable(executor.exit(exit).needed)) continue;
    const next = prefillTask(sequence, chunk, executor, router);
    ms += router.predictMs({ decode: null, prefill: next.work });
    if (tasks.length > 0 && ms > stallMs) break;
    tasks.push(next);
  }
  return tasks;
}

/** The first tasks, as many as run together. */
export function fittingTasks(tasks: readonly PrefillTask[], { mostPrefill }: Executor): PrefillTask[] {
  let positions = 0;
  const first = tasks.findIndex((task) => (positions += task.positions) > mostPrefill);
  return tasks.slice(0, first < 0 ? tasks.length : Math.max(1, first));
}

/**
 * End of a chunk of at most `most` positions. The chunk leaves no single position for the next one: attention over one
 * position rounds differently than over several, and the answer must not depend on the chunk size.
 */
export function chunkEnd(start: number, most: number, target: number): number {
  const end = Math.min(start + most, target);
  return target - end === 1 && end - start > 2 ? end - 1 : end;
}
