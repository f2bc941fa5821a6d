/**
 * What a step ran, as the router counts it and as metrics tell it.
 *
 * Knows: sequences' exits and lengths, predicted costs. Must not know: how a step runs.
 */
import type { DepthShape, Work } from '../../cost/model.js';
import { exitTimes } from './exit-times.js';
import type { StepWork } from '../protocol.js';
import type { RouterAdapter } from './router-adapter.js';
import type { Sequence } from '../sequence.js';

/** The part of a step before it decodes. */
export interface AdvanceTotals {
  readonly work: Work['prefill'];
  readonly prefilled: number;
  readonly caughtUp: number;
}

/** One position of each row; null where there is none. */
export function decodeWork(rows: readonly Sequence[], { exits }: DepthShape): Work['decode'] {
  if (rows.length === 0) return null;
  const byExit = exits.map((_, exit) => rows.filter((row) => row.exit === exit).length);
  return { rows: byExit, context: rows.reduce((sum, { tokens }) => sum + tokens.length, 0) / rows.length };
}

/** Everything that metrics want but the kernels that ran. @param took as StepWork has it */
export function stepWork(
  router: RouterAdapter,
  decode: Work['decode'],
  advanced: AdvanceTotals,
  stageRows: readonly number[],
  took: Pick<StepWork, 'ms' | 'cycleMs'>,
): Omit<StepWork, 'kernelRuns'> {
  const work: Work = { decode, prefill: advanced.work };
  const predict = (part: Work): number => router.predictMs(part);
  return {
    ms: took.ms,
    cycleMs: took.cycleMs,
    predictedMs: predict(work),
    stageRows,
    prefillTokens: advanced.prefilled,
    catchUpTokens: advanced.caughtUp,
    exitMs: exitTimes(router.shape, work, predict, took.ms),
    slowdown: router.slowdown,
  };
}
