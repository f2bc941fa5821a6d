/**
 * What a millisecond is worth: quality that a job gains by going deeper for what that costs, against what others would
 * make of the same time.
 *
 * Knows: costs by exit, demand. Must not know: deadlines.
 */
import type { Batch } from './batch.js';
import { ratesOf } from './demand.js';
import { type Levels, tokenMs } from './levels.js';
import { planChunk } from './policy.js';
import { promptMs } from './steps.js';

/** Quality per millisecond of `tokens` that go deeper. @param onceMs prefill or catch-up that it costs beside its tokens */
export function worthOf(
  { model }: Batch,
  levels: Levels,
  from: number,
  to: number,
  tokens: number,
  onceMs: number,
): number {
  const { exits } = model.shape;
  const gain = tokens * ((exits[to]?.quality ?? 0) - (exits[from]?.quality ?? 0));
  return gain / Math.max(1e-3, onceMs + tokens * (tokenMs(levels, to) - tokenMs(levels, from)));
}

/**
 * Least worth that depth is bought at: nothing while the machine has time for all that keeps arriving at full depth; the
 * more the shorter time gets, so that it goes to long answers after short prompts.
 */
export function priceOf(batch: Batch, levels: Levels): number {
  const { state, model, policy } = batch;
  const { requests, positions, tokens } = ratesOf(state.learned.demand, state.now);
  const deepest = model.shape.exits.length - 1;
  if (requests === 0 || deepest === 0) return 0;
  const chunk = planChunk(policy);
  const positionMs = (exit: number): number => promptMs(model, exit, chunk, chunk) / chunk;
  const busy = (exit: number): number => positions * positionMs(exit) + tokens * tokenMs(levels, exit);
  const shallow = busy(0);
  const deep = busy(deepest);
  const share = Math.min(1, Math.max(0, (1 - shallow) / Math.max(1e-9, deep - shallow)));
  const once = (positions * (positionMs(deepest) - positionMs(0))) / requests;
  return PRICE * (1 - share) * worthOf(batch, levels, 0, deepest, tokens / requests, once);
}

/** Where there is time for nobody, depth has to be worth this many times what it is worth for the mean of what arrives. */
const PRICE = 1;
