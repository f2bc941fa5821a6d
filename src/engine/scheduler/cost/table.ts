/**
 * The cost table that the engine measures at start: what a step takes on this machine. The calibration cache keeps it
 * as JSON, and a simulation reads it. A measured cost is a curve of rows and context: piecewise linear between the
 * points, extended by the last slope.
 */
import { type Static, Type } from '../../../util/schema.js';

const CostPointSchema = Type.Object({
  /** Decode: sequences of one position each. Prefill: positions of one sequence. */
  rows: Type.Integer({ minimum: 1 }),
  /** Positions of past that attention reads, per row. */
  context: Type.Integer({ minimum: 0 }),
  ms: Type.Number({ minimum: 0 }),
});
export type CostPoint = Static<typeof CostPointSchema>;

const UnitCostSchema = Type.Object({
  /** `embed`, `head`, `step` or the name of a stage or exit block in the manifest. */
  unit: Type.String(),
  kernel: Type.String(),
  decode: Type.Array(CostPointSchema),
  prefill: Type.Array(CostPointSchema),
});
/** Costs of one graph with one kernel. */
export type UnitCost = Static<typeof UnitCostSchema>;

/** Validates a CostTable. */
export const CostTableSchema = Type.Object({ units: Type.Array(UnitCostSchema) });
export type CostTable = Static<typeof CostTableSchema>;

/** Points of one context, by rising rows; ms never falls with rows (a dip is measurement noise). */
interface Line {
  readonly context: number;
  readonly rows: readonly number[];
  readonly ms: readonly number[];
}

export type Curve = readonly Line[];

/** Groups points by context. Two points at one place count with their mean. Empty points give an empty, free curve. */
export function curveOf(points: readonly CostPoint[]): Curve {
  const contexts = [...new Set(points.map((point) => point.context))].sort((a, b) => a - b);
  return contexts.map((context) => {
    const here = points.filter((point) => point.context === context);
    const rows = [...new Set(here.map((point) => point.rows))].sort((a, b) => a - b);
    let floor = 0;
    const ms = rows.map((count) => {
      const same = here.filter((point) => point.rows === count);
      floor = Math.max(floor, same.reduce((sum, point) => sum + point.ms, 0) / same.length);
      return floor;
    });
    return { context, rows, ms };
  });
}

/**
 * Milliseconds at (rows, context); 0 for no rows. Never falls with rows, nor below the nearest line beyond the ends.
 */
export function costAt(curve: Curve, rows: number, context: number): number {
  if (rows <= 0) return 0;
  let [above] = curve;
  if (above === undefined) return 0;
  let below = above;
  for (const line of curve) {
    below = above;
    above = line;
    if (line.context >= context) break;
  }
  const high = lineAt(above, rows);
  if (above === below) return high;
  const low = lineAt(below, rows);
  const share = (context - below.context) / (above.context - below.context);
  // Beyond the last context a falling slope would predict free attention: hold the last line instead.
  if (share > 1 && high < low) return high;
  return low + (high - low) * share;
}

/** The cheapest of several kernels' curves, since the engine runs the cheapest; 0 without a curve. */
export function cheapestAt(curves: readonly Curve[], rows: number, context: number): number {
  let least = Infinity;
  for (const curve of curves) least = Math.min(least, costAt(curve, rows, context));
  return least === Infinity ? 0 : least;
}

function lineAt(line: Line, rows: number): number {
  const { rows: xs, ms: ys } = line;
  const last = xs.length - 1;
  const x0 = xs[0] ?? 0;
  const y0 = ys[0] ?? 0;
  if (rows <= x0) return y0;
  // A single point: take cost as proportional, the pessimistic reading of "one row costs this".
  if (last === 0) return (y0 * rows) / x0;
  let i = 1;
  while (i < last && (xs[i] ?? 0) < rows) i += 1;
  const xa = xs[i - 1] ?? 0;
  const ya = ys[i - 1] ?? 0;
  return ya + (((ys[i] ?? 0) - ya) * (rows - xa)) / ((xs[i] ?? 0) - xa);
}
