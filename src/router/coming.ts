/**
 * What is expected to arrive and to be due before the deadlines that are known, as milliseconds of work at the
 * shallowest exit: what comes can be made shallow as well, so its depth is nothing to leave time for.
 *
 * Knows: demand, costs. Must not know: the jobs that are there.
 */
import { floats } from './arrays.js';
import type { Batch } from './batch.js';
import { dueWithin } from './demand.js';
import type { Levels } from './levels.js';
import { planChunk } from './policy.js';
import { promptMs } from './steps.js';
import type { Task } from './tasks.js';

/** Fewer expected arrivals than this are more likely none, and count the less. */
const FEW = Math.LN2;

/** By task. */
export function comingWork({ state, model, policy }: Batch, tasks: readonly Task[], { row }: Levels): Float64Array {
  const chunk = planChunk(policy);
  const position = promptMs(model, 0, chunk, chunk) / chunk;
  const rowMs = row[0] ?? 0;
  const expected = dueWithin(state.learned.demand, state.now, policy.urgency);
  return floats(tasks, ({ due }) => {
    if (policy.foresight === 0 || due === Infinity) return 0;
    const { requests, positions, tokens } = expected(due - state.now);
    return Math.min(1, requests / FEW) * (positions * position + tokens * rowMs);
  });
}
