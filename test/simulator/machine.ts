/**
 * The scheduler of a simulated machine: its slots and KV memory are those of the engine, without any bytes behind them.
 */
import type { DepthShape, Work } from '../../src/engine/scheduler/cost/model.js';
import type { CostTable } from '../../src/engine/scheduler/cost/table.js';
import { SlotTable } from '../../src/engine/scheduler/kv/slot-table.js';
import { type Units, unitsOf } from '../../src/engine/scheduler/kv/units.js';
import type { Priors } from '../../src/engine/scheduler/planner.js';
import type { Policy } from '../../src/engine/scheduler/policy.js';
import { Scheduler } from '../../src/engine/scheduler/scheduler.js';

export interface Machine {
  /** Sequences that run at once. */
  readonly slots: number;
  /** Positions that the KV cache holds at full depth. */
  readonly kvPositions: number;
  /** Clients that never pause: a request arrives when one of them is free. Absent or null: at its own time. */
  readonly clients?: number | null;
  /** When all upstreams fail, so that all nets wake; absent: never. */
  readonly failsAt?: number;
  /** Real time of a step in ms, from its work and the current time. */
  readonly actual: (work: Work, now: number) => number;
}

/** The knowledge of a scheduler at start. */
export interface Knowledge {
  readonly shape: DepthShape;
  readonly table: CostTable;
  readonly policy: Policy;
  readonly priors?: Priors;
  readonly slowdown?: number;
}

/** Slots beside the running ones, for stored prefixes: the engine's number. */
const STORED_SLOTS = 16;

export function simulatedScheduler(
  { slots, kvPositions }: Pick<Machine, 'slots' | 'kvPositions'>,
  { shape, table, policy, priors = { lengths: null }, slowdown = 1 }: Knowledge,
): Scheduler {
  return new Scheduler(new SlotTable(slots + STORED_SLOTS, unitsOfShape(shape), 1), {
    shape,
    costs: table,
    policy,
    priors,
    slowdown,
    maxRunning: slots,
    maxQueue: Infinity,
    kvBytes: kvPositions,
    prefixReuse: true,
    prefillChunk: policy.chunks.at(-1) ?? 1,
    mostPrefill: Infinity,
    drafts: { speculate: 'off', most: 0, hasGate: false },
  });
}

/** The units of a shape. */
export function unitsOfShape(shape: DepthShape): Units {
  const { exits } = shape;
  return unitsOf({
    stages: shape.stages.map((_, boundary) => ({ entry: { boundary } })),
    exits: exits.map(({ layer, stage, block }) => ({
      entry: { layer, stage, norm: 0 },
      block: block === null ? null : { entry: { boundary: stage + 1 } },
    })),
  });
}
