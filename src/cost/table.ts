/**
 * The cost table that the engine measures at start: what a step takes on this machine. The calibration cache keeps it as
 * JSON, and a simulation reads it.
 */
import { type Static, Type } from '../util/schema.js';

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
