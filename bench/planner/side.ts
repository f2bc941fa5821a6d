/**
 * The sides of the planner's bench: what a side makes of a request, and what its run came to.
 *
 * Knows: simulator, reports. Must not know: where requests come from, how results are printed.
 */
import { type CostModel, type Work, defaultPolicy, predictMs } from '../../src/router/planner.js';
import { type Outcome, simulate } from '../../src/simulate/engine.js';
import { noisy } from '../../src/simulate/noise.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { seeded } from '../../src/simulate/workload.js';
import type { MachineKind } from './workload.js';

export interface Side {
  readonly name: string;
  /** The request as this side sees it; it is judged by what it was. */
  readonly see: (request: SimulatedRequest) => SimulatedRequest;
}

/** Routed by budgets (ending late, or cut at the deadline), and depths that know nothing of budgets. */
export function sidesOf(exits: readonly number[]): Side[] {
  return [
    { name: 'routed', see: (request) => request },
    {
      name: 'truncate',
      see: ({ budget, ...rest }) => ({ ...rest, budget: budget && { ...budget, onMiss: 'truncate' } }),
    },
    ...exits.map((layer): Side => ({
      name: `fixed ${layer}`,
      see: (request) => ({ ...request, budget: null, minExit: layer, maxExit: layer }),
    })),
  ];
}

export interface Machine {
  readonly model: CostModel;
  readonly slots: number;
  readonly kind: MachineKind;
  readonly seed: number;
}

/** A caller's wait outside the engine. */
const OVERHEAD_MS = 10;
/** 20% a step, and spells in which steps take twice as long, a sixth of the time. */
const NOISE = { step: 0.2, spellEveryS: 6 };
/** About what two cores showed that ran the server and its clients: a step of 14 rows took 13.8 ms and not 9.8, of 2 rows 7.4 and not 4.2. */
function sharedMs({ decode }: Work, ms: number): number {
  const rows = decode?.rows.reduce((sum, count) => sum + count, 0) ?? 0;
  return 1.2 * ms + 2.5 + 0.1 * rows;
}

const KV_POSITIONS = 1e6;

/** Serves all requests. @returns their outcomes, with the requests as they were */
export function serve(side: Side, requests: readonly SimulatedRequest[], machine: Machine): Outcome[] {
  const { model, slots, seed } = machine;
  const noise = machine.kind === 'noisy' ? noisy(NOISE, seeded(seed * 7 + 3)) : (ms: number): number => ms;
  const run = simulate(
    requests.map((request) => side.see(request)),
    {
      ...{ slots, kvPositions: KV_POSITIONS, overheadMs: OVERHEAD_MS },
      actual: (work, now) =>
        machine.kind === 'shared' ? sharedMs(work, predictMs(model, work)) : noise(predictMs(model, work), now),
    },
    model,
    defaultPolicy,
  );
  const asked = new Map(requests.map((request) => [request.id, request]));
  for (let next = run.next(); ; next = run.next()) {
    if (next.done === true) {
      return next.value.map((outcome) => ({ ...outcome, request: asked.get(outcome.request.id) ?? outcome.request }));
    }
  }
}

/** Requests per second that full depth completes with clients that never pause. */
export function capacityOf(
  requests: readonly SimulatedRequest[],
  model: CostModel,
  slots: number,
  kind: MachineKind,
): number {
  const deepest = model.shape.exits.at(-1)?.layer ?? 0;
  const side = sidesOf([deepest]).at(-1);
  if (side === undefined) throw new Error('a model has an exit');
  const outcomes = serve(side, requests, { model, slots, kind, seed: 0 });
  const endedAt = outcomes.reduce((latest, outcome) => Math.max(latest, outcome.endedAt), 0);
  return (1000 * outcomes.length) / endedAt;
}
