/**
 * The work of a step as metrics report it.
 *
 * Must not know: how a step runs.
 */
import type { DepthShape, Work } from '../scheduler/cost/model.js';
import type { StepWork } from '../../protocol/index.js';
import type { Scheduler } from '../scheduler/scheduler.js';
import type { StepPlan, StepResult } from '../scheduler/step-plan.js';

/**
 * All metrics of a step except the slowdown behind it; null for a step without work.
 * @param took durations of the step
 */
export function stepWork(
  plan: StepPlan,
  { draft, tokens }: Pick<StepResult, 'draft' | 'tokens'>,
  took: Pick<StepWork, 'ms' | 'cycleMs' | 'partMs'>,
  scheduler: Scheduler,
): Omit<StepWork, 'slowdown'> | null {
  const { chunks, rows, work } = plan;
  if (chunks.length + rows.length === 0) return null;
  const predictMs = (part: Work): number => scheduler.predictMs(part);
  const prefillTokens = chunks.reduce((sum, { prefilled }) => sum + prefilled, 0);
  // A draft gives the tokens of several plain steps.
  const further = draft === null ? 0 : Math.max(1, tokens.filter(({ isEnd }) => !isEnd).length) - 1;
  return {
    ...took,
    predictedMs: plan.predictedMs + further * predictMs({ ...work, prefill: [] }),
    prefillTokens,
    catchUpTokens: chunks.reduce((sum, { positions }) => sum + positions, -prefillTokens),
    exitMs: exitTimes(scheduler.options.shape, work, predictMs, took.ms),
    ...(draft !== null && plan.draft !== null && { draft: { source: plan.draft.source, ...draft } }),
  };
}

/**
 * Splits a step's time by exit. Prefill and decode share it in proportion to their predicted times; the rows of a
 * decode step share theirs in proportion to their exit layer.
 * @param cost predicted milliseconds of a part of the work
 * @returns milliseconds by exit, in the order of shape.exits; their sum is `ms`
 */
export function exitTimes(shape: DepthShape, work: Work, cost: (part: Work) => number, ms: number): number[] {
  const shares = shape.exits.map(() => 0);
  const add = (exit: number, share: number): void => {
    shares[exit] = (shares[exit] ?? 0) + share;
  };
  for (const part of work.prefill) add(part.exit, cost({ decode: null, prefill: [part] }));
  if (work.decode !== null) {
    const depths = work.decode.rows.map((rows, exit) => rows * (shape.exits[exit]?.layer ?? 0));
    const depth = sum(depths);
    const decodeMs = cost({ decode: work.decode, prefill: [] });
    depths.forEach((each, exit) => {
      if (each > 0) add(exit, (decodeMs * each) / depth);
    });
  }
  const total = sum(shares);
  return shares.map((share) => (total > 0 ? (ms * share) / total : 0));
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}
