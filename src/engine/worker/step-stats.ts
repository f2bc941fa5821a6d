/**
 * The work of a step, as the router counts it and as metrics report it.
 *
 * Must not know: how a step runs.
 */
import type { DepthShape, Work } from '../../cost/model.js';
import type { Router } from '../../scheduler/router.js';
import type { Row, StepBatch } from '../execution/step-batch.js';
import type { StepWork } from '../../protocol/index.js';
import type { Sequence } from '../../scheduler/sequence.js';
import type { Draft } from '../speculation/speculation.js';
import type { PrefillTask } from '../../scheduler/chunks.js';

/** The batch of a step with its sequences, and the work that the router counts. */
export interface Step extends StepBatch {
  readonly startedAt: number;
  readonly chunks: readonly PrefillTask[];
  /** Plain greedy sequences come first (sample-batch.ts). */
  readonly rows: readonly (Row & { readonly sequence: Sequence })[];
  readonly draft: Draft | null;
  readonly work: Work;
}

/** Durations of a step, see StepWork. */
export type StepTimes = Pick<StepWork, 'ms' | 'cycleMs' | 'partMs'>;

/** One position for each row; null without rows. */
export function decodeWork(rows: readonly Sequence[], { exits }: DepthShape): Work['decode'] {
  if (rows.length === 0) return null;
  const byExit = exits.map((_, exit) => rows.filter((row) => row.exit === exit).length);
  return { rows: byExit, context: rows.reduce((sum, { tokens }) => sum + tokens.length, 0) / rows.length };
}

/** All metrics of a step except the kernels that ran. */
export function stepWork(router: Router, step: Step, took: StepTimes): Omit<StepWork, 'kernelRuns'> {
  const { chunks, work } = step;
  const predict = (part: Work): number => router.predictMs(part);
  const prefillTokens = chunks.reduce((sum, { prefilled }) => sum + prefilled, 0);
  return {
    ...took,
    predictedMs: predict(work),
    stageRows: stageRows(step),
    prefillTokens,
    catchUpTokens: chunks.reduce((sum, { positions }) => sum + positions, -prefillTokens),
    exitMs: exitTimes(router.shape, work, predict, took.ms),
    slowdown: router.slowdown,
  };
}

/** Rows of each trunk stage that runs; none for a draft. */
function stageRows({ rows, draft }: Step): number[] {
  const stages = draft === null ? Math.max(0, ...rows.map(({ exit }) => exit.stage + 1)) : 0;
  return Array.from({ length: stages }, (_, stage) => rows.filter(({ exit }) => exit.stage >= stage).length);
}

/**
 * Splits a step's time by exit. Prefill and decode share it in proportion to their predicted times; the rows of a decode
 * step share theirs in proportion to their exit layer.
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
