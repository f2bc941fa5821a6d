/**
 * Measures what every unit costs on this machine, at start.
 *
 * Knows: the executor, a clock. Must not know: requests. The caches hold zeros then; cost does not depend on values.
 */
import type { CostPoint, CostTable, UnitCost } from '../router/cost.js';
import type { Executor } from './executor.js';

export interface CalibrationPlan {
  /** Rows of decode steps, rising. */
  readonly rows: readonly number[];
  /** Positions of prefill chunks, rising. */
  readonly chunks: readonly number[];
  /** Positions of past, rising. */
  readonly contexts: readonly number[];
  /** Each point is the least of that many runs: noise only ever adds. */
  readonly repeats: number;
  /** Past that many milliseconds each point is one run: on a machine that is busy with other things, a rough table now
   * beats a good one after a minute; corrections follow online. */
  readonly patienceMs: number;
}

/** Points that take about a second for the embedded model, cut to what the engine can run. */
export function calibrationPlan(maxRows: number, maxChunk: number, capacity: number): CalibrationPlan {
  const upTo = (values: readonly number[], most: number): number[] => [
    ...new Set([...values.filter((value) => value < most), most]),
  ];
  const chunks = upTo([8, 32], Math.min(maxChunk, 128)).filter((chunk) => chunk <= capacity);
  return {
    rows: upTo([1, 4], Math.min(maxRows, 16)),
    chunks,
    contexts: [...new Set([0, Math.max(0, Math.min(512, capacity - Math.max(...chunks)))])],
    repeats: 2,
    patienceMs: 1000,
  };
}

/** @param now milliseconds on a monotonic clock */
export function calibrate(executor: Executor, plan: CalibrationPlan, now: () => number): CostTable {
  const { units, kernels } = executor;
  const startedAt = now();
  const time = (run: () => void): number => {
    let least = Infinity;
    // One run more than repeats: the first of a shape binds and allocates.
    for (let repeat = 0; repeat <= plan.repeats; repeat++) {
      const start = now();
      run();
      least = Math.min(least, now() - start);
      if (now() - startedAt > plan.patienceMs) break;
    }
    return least;
  };
  const measure = (
    sizes: readonly number[],
    contexts: readonly number[],
    run: (rows: number, context: number) => void,
  ): CostPoint[] =>
    contexts.flatMap((context) =>
      sizes.map((rows) => ({
        rows,
        context,
        ms: time(() => {
          run(rows, context);
        }),
      })),
    );

  const costs: UnitCost[] = kernels.flatMap((kernel) =>
    units.stages.map(({ entry }, unit) => ({
      unit: entry.name,
      kernel,
      decode: measure(plan.rows, plan.contexts, (rows, context) => {
        executor.runRows(unit, kernel, rows, context);
      }),
      prefill: measure(plan.chunks, plan.contexts, (positions, context) => {
        executor.runChunk(unit, kernel, context, positions);
      }),
    })),
  );
  const [kernel = 'fp32'] = kernels;
  const embed = measure(plan.rows, [0], (rows) => {
    executor.runEmbed(rows);
  });
  const head = measure(plan.rows, [0], (rows) => {
    executor.runHead(rows);
  });
  costs.push(
    { unit: 'embed', kernel, decode: embed, prefill: embed },
    { unit: 'head', kernel, decode: head, prefill: [] },
  );
  executor.forget(Math.max(...plan.contexts) + Math.max(...plan.chunks));
  return { units: costs };
}
