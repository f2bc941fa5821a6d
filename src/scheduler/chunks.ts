/**
 * Selects positions for a step to prefill: catch-ups, or chunks of prompts.
 *
 * Must not know: which prompt goes on (the router selects it), decoding.
 */
import type { Work } from '../cost/model.js';
import type { PrefillChunk, Router } from './router.js';
import type { Executor } from '../engine/execution/executor.js';
import { type Chunk, chunkEnd } from '../engine/execution/step-batch.js';
import type { Sequence } from './sequence.js';
import type { SlotManager } from './slot-manager.js';
import { viewOf } from '../engine/worker/views.js';

/** A chunk of one sequence, and its work. */
export interface PrefillTask extends Chunk {
  readonly sequence: Sequence;
  /** Positions of the unit that lacks most. */
  readonly positions: number;
  /** Those of them that the first stage lacks; the other units catch up over the rest. */
  readonly prefilled: number;
  readonly work: Work['prefill'];
}

interface Costs {
  readonly executor: Executor;
  readonly router: Router;
}

export interface PrefillParts extends Costs {
  readonly slotManager: SlotManager;
  /** Most positions of each sequence. */
  readonly prefillChunk: number;
  /** Approximate time limit of all catch-ups after the first. */
  readonly maxStallMs: number;
}

/** Every catch-up, since plans count on it; without one, a chunk of each prompt that the router names. */
export function selectPrefill(planned: readonly PrefillChunk[], parts: PrefillParts): PrefillTask[] {
  const { executor, slotManager, prefillChunk, maxStallMs } = parts;
  const catchUps = catchUpTasks(slotManager.running, parts, prefillChunk, maxStallMs);
  if (catchUps.length > 0) return fittingTasks(catchUps, executor);
  const tasks: PrefillTask[] = [];
  for (const { id, positions } of planned) {
    const sequence = slotManager.running.find((each) => each.id === id);
    if (sequence === undefined) continue;
    // The prompt starts from the prefix that another prompt has computed by this step.
    slotManager.share(sequence);
    // Another one computes these positions in this step, and the next step copies them.
    if (tasks.some((task) => slotManager.awaits(sequence, task))) continue;
    const task = prefillTask(sequence, Math.min(positions, prefillChunk), parts);
    if (task !== null) tasks.push(task);
  }
  return fittingTasks(tasks, executor);
}

/** The work that advances a sequence to a position at its exit. */
export function workTo(router: Router, sequence: Sequence, end: number): Work['prefill'] {
  return router.advanceWork(viewOf(sequence, router.shape).frontier, sequence.exit, end);
}

/** The next positions of a sequence, at most `most`; null without a slot. */
export function prefillTask(sequence: Sequence, most: number, { executor, router }: Costs): PrefillTask | null {
  const { slot, tokens } = sequence;
  if (slot === null) return null;
  const exit = executor.exit(sequence.exit);
  const start = slot.least(exit.needed);
  const end = chunkEnd(start, most, tokens.length - 1);
  const prefilled = Math.max(0, end - slot.length);
  return { sequence, slot, exit, end, positions: end - start, prefilled, work: workTo(router, sequence, end) };
}

/**
 * Catch-ups of sequences whose exit changed and whose units there lack more than the last position. A sequence does not
 * decode until it has caught up. So several catch-ups share a step when many sequences change their exit block together.
 */
export function catchUpTasks(
  running: readonly Sequence[],
  costs: Costs,
  chunk: number,
  stallMs: number,
): PrefillTask[] {
  const tasks: PrefillTask[] = [];
  let ms = 0;
  for (const sequence of running) {
    const { slot, tokens, exit } = sequence;
    // A shorter slot belongs to a prompt, and a sequence that has the positions its exit needs decodes.
    if (slot === null || slot.length < tokens.length - 1) continue;
    if (sequence.isDecodable(costs.executor.exit(exit).needed)) continue;
    const next = prefillTask(sequence, chunk, costs);
    if (next === null) continue;
    ms += costs.router.predictMs({ decode: null, prefill: next.work });
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
