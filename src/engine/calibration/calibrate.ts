/**
 * Measures the cost of every unit on this machine at start.
 *
 * The KV caches hold zeros at that time; costs do not depend on values.
 */
import type { CostPoint, CostTable, UnitCost } from '../scheduler/cost/table.js';
import type { DeviceKind } from '../runtime/device.js';
import type { Executor } from '../execution/executor.js';

export interface CalibrationPlan {
  /** Rows of decode steps, ascending. */
  readonly rows: readonly number[];
  /** Positions of prefill chunks, ascending. */
  readonly chunks: readonly number[];
  /** Positions of past, ascending. */
  readonly contexts: readonly number[];
  /** Runs of each point; the fastest counts, because noise only adds time. */
  readonly repeats: number;
  /**
   * After this many milliseconds, each point runs once. On a busy machine, a rough table now is better than a good one
   * after a minute; the cost model corrects it online.
   */
  readonly patienceMs: number;
}

/** Largest points: costs grow in proportion from here on. A GPU has room for far more rows at the same cost. */
const MOST = { cpu: { rows: 16, chunk: 128 }, gpu: { rows: 256, chunk: 512 } } as const;

/** Points that take about a second for the embedded model, limited to sizes that the engine can run. */
export function calibrationPlan(
  maxRows: number,
  maxChunk: number,
  capacity: number,
  device: DeviceKind = 'cpu',
): CalibrationPlan {
  const most = MOST[device === 'cpu' ? 'cpu' : 'gpu'];
  const upTo = (values: readonly number[], most: number): number[] => [
    ...new Set([...values.filter((value) => value < most), most]),
  ];
  const chunks = upTo(device === 'cpu' ? [8, 32] : [8, 32, 128], Math.min(maxChunk, most.chunk, capacity));
  return {
    rows: upTo(device === 'cpu' ? [1, 4] : [1, 4, 16, 64], Math.min(maxRows, most.rows)),
    chunks,
    contexts: [...new Set([0, Math.max(0, Math.min(512, capacity - Math.max(...chunks)))])],
    repeats: 2,
    patienceMs: 1000,
  };
}

interface Timed {
  readonly point: Omit<CostPoint, 'ms'>;
  readonly run: () => void;
  ms: number;
}

/** @param now milliseconds on a monotonic clock */
export function calibrate(executor: Executor, plan: CalibrationPlan, now: () => number): CostTable {
  const { units, kernels, alone } = executor;
  const stages = kernels.flatMap((kernel) =>
    units.stages.map(({ entry }, unit) => ({
      unit: entry.name,
      kernel,
      isTrunk: unit < units.trunkStages,
      layers: entry.layers,
      decode: timed(plan.rows, plan.contexts, (rows, context) => {
        alone.rows(unit, kernel, rows, context);
      }),
      prefill: timed(plan.chunks, plan.contexts, (positions, context) => {
        alone.chunk(unit, kernel, context, positions);
      }),
    })),
  );
  const embed = timed(plan.rows, [0], (rows) => {
    alone.embed(rows);
  });
  const head = timed(plan.rows, [0], (rows) => {
    alone.head(rows);
  });
  const byUnit = [...stages.flatMap(({ decode, prefill }) => [decode, prefill]), embed, head];
  inRounds(alternated(byUnit), plan, now);
  // Trunk stages differ only in their number of layers, and so do exit blocks.
  for (const each of kernels)
    for (const isTrunk of [true, false]) {
      const alike = stages.filter((stage) => stage.kernel === each && stage.isTrunk === isTrunk);
      smooth(alike.map(({ layers, decode }) => ({ layers, points: decode })));
      smooth(alike.map(({ layers, prefill }) => ({ layers, points: prefill })));
    }
  executor.forget(Math.max(...plan.contexts) + Math.max(...plan.chunks));
  const [kernel = 'fp32'] = kernels;
  const embedding = embed.map(costOf);
  return {
    units: [
      ...stages.map(({ unit, kernel: own, decode, prefill }): UnitCost => {
        return { unit, kernel: own, decode: decode.map(costOf), prefill: prefill.map(costOf) };
      }),
      { unit: 'embed', kernel, decode: embedding, prefill: embedding },
      { unit: 'head', kernel, decode: head.map(costOf), prefill: [] },
    ],
  };
}

/** The points of one unit: each size behind each past. */
function timed(
  sizes: readonly number[],
  contexts: readonly number[],
  run: (rows: number, context: number) => void,
): Timed[] {
  return contexts.flatMap((context) =>
    sizes.map((rows) => ({
      point: { rows, context },
      run: () => {
        run(rows, context);
      },
      ms: Infinity,
    })),
  );
}

/**
 * The first points of all units, then the second ones: like a served step, a run then finds the weights of other units
 * in the cache. One unit's points in a row took two thirds of a served step's time on Zen 4.
 */
function alternated(byUnit: readonly (readonly Timed[])[]): Timed[] {
  const most = Math.max(...byUnit.map((points) => points.length));
  return Array.from({ length: most }, (_, i) => byUnit.flatMap((points) => points[i] ?? [])).flat();
}

const costOf = ({ point, ms }: Timed): CostPoint => ({ ...point, ms });

/** Measures all points in rounds: a slow spell of the machine then disturbs one round, not all runs of one point. */
function inRounds(timed: readonly Timed[], { repeats, patienceMs }: CalibrationPlan, now: () => number): void {
  const startedAt = now();
  // One round more than `repeats`: the first run of a shape binds and allocates.
  for (let round = 0; round <= repeats; round++) {
    for (const each of timed) {
      if (now() - startedAt > patienceMs && each.ms < Infinity) continue;
      const start = now();
      each.run();
      each.ms = Math.min(each.ms, now() - start);
    }
  }
}

/** Limits each unit to the median cost per layer: a higher value was disturbed during its measurement. */
function smooth(stages: readonly { readonly layers: number; readonly points: readonly Timed[] }[]): void {
  const [first] = stages;
  first?.points.forEach((_, i) => {
    const perLayer = stages.map(({ layers, points }) => (points[i]?.ms ?? Infinity) / layers).sort((a, b) => a - b);
    const middle = perLayer[perLayer.length >> 1] ?? Infinity;
    for (const { layers, points } of stages) {
      const point = points[i];
      if (point !== undefined) point.ms = Math.min(point.ms, middle * layers);
    }
  });
}
