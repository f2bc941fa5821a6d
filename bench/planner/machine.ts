/** The machine that a side of the planner's bench serves on. Plain data. */
import type { CostModel } from '../../src/cost/model.js';
import type { CostTable } from '../../src/cost/table.js';
import type { LengthPrior, Policy } from '../../src/router/index.js';
import type { MachineKind } from './workload.js';

export interface Machine {
  readonly model: CostModel;
  readonly table: CostTable;
  readonly prior: LengthPrior | null;
  readonly policy: Policy;
  readonly slots: number;
  readonly kind: MachineKind;
  readonly seed: number;
  /** Clients that never pause; null for open arrivals. */
  readonly clients: number | null;
}
