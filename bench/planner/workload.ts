/**
 * What the planner is tried on: a trace's lengths, made-up arrivals, three classes of budgets, from a seed.
 *
 * Knows: traces, arrival processes, what full depth takes. Must not know: how requests are served.
 */
import { type CostModel, predictMs } from '../../src/router/planner.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import type { TraceEntry } from '../../src/simulate/trace.js';
import { type BudgetClass, classesFor, requestsOf, seeded } from '../../src/simulate/workload.js';
import { type Arrivals, arrivalTimes } from '../goodput/load.js';

/** Seeds to choose parameters by, and seeds to report by: what was chosen on the first must hold on the second. */
export const SEEDS = { tuning: [1, 2, 3, 4], 'held-out': [101, 102, 103, 104] } as const;
export type SeedSet = keyof typeof SEEDS;

/**
 * `noisy` steps vary, and there are slow spells. `shared`: gateway and clients take their part of the same cores, which
 * a calibration at rest does not see.
 */
export const MACHINES = ['steady', 'noisy', 'shared'] as const;
export type MachineKind = (typeof MACHINES)[number];

/** One kind of traffic on one kind of machine. */
export interface Cell {
  readonly arrivals: Arrivals;
  /** 1 is what full depth completes with clients that never pause. */
  readonly load: number;
  readonly machine: MachineKind;
}

export interface Lengths {
  readonly trace: readonly TraceEntry[];
  readonly requests: number;
  /** Prompts and answers are that many times as long as in the trace. */
  readonly scale: number;
}

const LONGEST = 1000;

/** Budgets of 2, 4 and 10 times what full depth alone takes by the cost model. */
export function budgetClasses(model: CostModel): BudgetClass[] {
  const deepest = model.shape.exits.length - 1;
  const rows = new Array<number>(deepest + 1).fill(0).with(-1, 1);
  const chunk = { exit: deepest, positions: 128, context: 0, chunk: 128 };
  return classesFor(
    predictMs(model, { decode: null, prefill: [chunk] }) / chunk.positions,
    predictMs(model, { decode: { rows, context: 256 }, prefill: [] }),
  );
}

/** Requests that all arrive at once: what capacity is measured with. */
export function closedLoad(lengths: Lengths, classes: readonly BudgetClass[]): SimulatedRequest[] {
  return drawn(lengths, classes, 0).map((request) => ({ ...request, arrivedAt: 0 }));
}

/** A seed's requests, from a stretch of the trace of its own. */
export function openLoad(
  lengths: Lengths,
  classes: readonly BudgetClass[],
  perSecond: number,
  arrivals: Arrivals,
  seed: number,
): SimulatedRequest[] {
  const times = arrivalTimes(lengths.requests, perSecond, arrivals, seeded(seed * 7 + 2));
  return drawn(lengths, classes, seed).map((request, i) => ({ ...request, arrivedAt: times[i] ?? 0 }));
}

function drawn({ trace, requests, scale }: Lengths, classes: readonly BudgetClass[], seed: number): SimulatedRequest[] {
  const from = (seed * requests) % Math.max(1, trace.length - requests);
  return requestsOf(
    trace.slice(from),
    classes,
    { speed: 1, length: scale, limit: requests, maxLength: LONGEST },
    seeded(seed * 7 + 1),
  );
}
