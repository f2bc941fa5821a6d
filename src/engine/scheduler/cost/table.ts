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
  readonly points: readonly { readonly rows: number; readonly ms: number }[];
}

export type Curve = readonly Line[];

/** Groups points by context. Empty points give an empty, free curve. */
export function curveOf(points: readonly CostPoint[]): Curve {
  const contexts = [...new Set(points.map(({ context }) => context))].sort((a, b) => a - b);
  return contexts.map((context) => {
    let floor = 0;
    const here = points.filter((point) => point.context === context).sort((a, b) => a.rows - b.rows);
    return { context, points: here.map(({ rows, ms }) => ({ rows, ms: (floor = Math.max(floor, ms)) })) };
  });
}

/**
 * Milliseconds at (rows, context); 0 for no rows. Never falls with rows, nor below the nearest line beyond the ends.
 */
export function costAt(curve: Curve, rows: number, context: number): number {
  const next = curve.findIndex((line) => line.context >= context);
  const place = next < 0 ? curve.length - 1 : next;
  const below = curve[place - 1];
  const above = curve[place];
  if (rows <= 0 || above === undefined) return 0;
  const high = lineAt(above, rows);
  if (below === undefined) return high;
  const low = lineAt(below, rows);
  // Beyond the last context a falling slope would predict free attention: hold the last line instead.
  if (next < 0 && high < low) return high;
  return low + ((high - low) * (context - below.context)) / (above.context - below.context);
}

/** The cheapest of several kernels' curves, since the engine runs the cheapest; 0 without a curve. */
export function cheapestAt(curves: readonly Curve[], rows: number, context: number): number {
  const least = curves.reduce((ms, curve) => Math.min(ms, costAt(curve, rows, context)), Infinity);
  return least === Infinity ? 0 : least;
}

function lineAt({ points }: Line, rows: number): number {
  const next = points.findIndex((point) => point.rows >= rows);
  const place = next < 0 ? points.length - 1 : next;
  const a = points[place - 1];
  const b = points[place];
  if (b === undefined) return 0;
  // A single point: take cost as proportional, the pessimistic reading of "one row costs this".
  if (a === undefined) return next < 0 ? (b.ms * rows) / b.rows : b.ms;
  return a.ms + ((b.ms - a.ms) * (rows - a.rows)) / (b.rows - a.rows);
}
