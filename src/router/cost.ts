/**
 * What a step costs on this machine: the table that the engine measures at start.
 *
 * Knows: plain numbers. Must not know: clocks, ONNX Runtime, requests.
 */

/** One measurement: `rows` sequences of one position each (decode), or one sequence of `rows` positions (prefill). */
export interface CostPoint {
  readonly rows: number;
  /** Positions of past that attention reads, per row. */
  readonly context: number;
  readonly ms: number;
}

/** Costs of one graph with one kernel. */
export interface UnitCost {
  /** `embed`, `head`, or a stage's name in the manifest. */
  readonly unit: string;
  readonly kernel: string;
  readonly decode: readonly CostPoint[];
  readonly prefill: readonly CostPoint[];
}

export interface CostTable {
  readonly units: readonly UnitCost[];
}
