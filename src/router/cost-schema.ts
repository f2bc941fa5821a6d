/**
 * The cost table as JSON: what the calibration cache keeps and a simulation reads.
 *
 * Knows: the shape of cost.ts. Must not know: files.
 */
import Type from 'typebox';

const CostPointSchema = Type.Object({
  rows: Type.Integer({ minimum: 1 }),
  context: Type.Integer({ minimum: 0 }),
  ms: Type.Number({ minimum: 0 }),
});

/** Validates a CostTable. */
export const CostTableSchema = Type.Object({
  units: Type.Array(
    Type.Object({
      unit: Type.String(),
      kernel: Type.String(),
      decode: Type.Array(CostPointSchema),
      prefill: Type.Array(CostPointSchema),
    }),
  ),
});
