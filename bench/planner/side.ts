/** The sides of bench:planner: each side's view of a request, its router, and its run. */
import { type Work, predictMs } from '../../src/cost/model.js';
import { Router } from '../../src/router/index.js';
import { type Outcome, type RouterFacade, simulate } from '../../src/simulate/engine.js';
import { noisy } from '../../src/simulate/noise.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { seeded } from '../../src/util/random.js';
import type { Machine } from './machine.js';
import { SimpleRouter } from './simple.js';

export interface Side {
  readonly name: string;
  /** The side's view of a request; its outcome is judged by the original request. */
  readonly see: (request: SimulatedRequest) => SimulatedRequest;
  readonly router: (machine: Machine) => RouterFacade;
  /** A rejected request arrives again with the least budget that its rejection names, and is judged by that. */
  readonly repeatsRejected?: boolean;
}

const routed = ({ model, table, policy, prior }: Machine): RouterFacade =>
  new Router(model.shape, table, policy, prior);

const withBudget = (onMiss: 'truncate' | 'reject') => (request: SimulatedRequest) => ({
  ...request,
  budget: request.budget && { ...request.budget, onMiss },
});

/** Every exit's answer has the full-depth length, and the router knows that length. */
function exact(request: SimulatedRequest): SimulatedRequest {
  const tokens = request.lengths.at(-1) ?? 1;
  return { ...request, lengths: request.lengths.map(() => tokens), maxTokens: tokens, isExactLength: true };
}

/** The router as clients use it, the same router with exact lengths, a simple router, and pinned exits. */
export function sidesOf(exits: readonly number[]): Side[] {
  return [
    { name: 'routed', see: (request) => request, router: routed },
    { name: 'oracle', see: exact, router: routed },
    { name: 'simple', see: (request) => request, router: (machine) => new SimpleRouter(machine) },
    { name: 'simple oracle', see: exact, router: (machine) => new SimpleRouter(machine) },
    { name: 'truncate', see: withBudget('truncate'), router: routed },
    { name: 'reject', see: withBudget('reject'), router: routed },
    { name: 'least', see: withBudget('reject'), router: routed, repeatsRejected: true },
    {
      name: 'least oracle',
      see: (request) => withBudget('reject')(exact(request)),
      router: routed,
      repeatsRejected: true,
    },
    ...exits.map((layer): Side => ({
      name: `pinned ${layer}`,
      see: (request) => ({ ...request, budget: null, minExit: layer, maxExit: layer }),
      router: routed,
    })),
  ];
}

/** Time in ms that a client waits outside the engine. */
const OVERHEAD_MS = 10;
/** Steps vary by 20%, and take twice as long during a sixth of the time. */
const NOISE = { step: 0.2, spellEveryS: 6 };
/**
 * Step time in ms if server and clients share two cores. Measured: 13.8 ms instead of 9.8 ms for 14 rows, and 7.4 ms
 * instead of 4.2 ms for 2 rows.
 */
function sharedMs({ decode }: Work, ms: number): number {
  const rows = decode?.rows.reduce((sum, count) => sum + count, 0) ?? 0;
  return 1.2 * ms + 2.5 + 0.1 * rows;
}

const KV_POSITIONS = 1e6;

/** Serves all requests. @returns their outcomes, with the original requests */
export function serve(side: Side, requests: readonly SimulatedRequest[], machine: Machine): Outcome[] {
  const { model, slots, seed, policy, clients } = machine;
  const noise = machine.kind === 'noisy' ? noisy(NOISE, seeded(seed * 7 + 3)) : (ms: number): number => ms;
  const run = simulate(
    requests.map((request) => side.see(request)),
    {
      slots,
      kvPositions: KV_POSITIONS,
      overheadMs: OVERHEAD_MS,
      clients,
      repeatsRejected: side.repeatsRejected === true,
      actual: (work, now) =>
        machine.kind === 'shared' ? sharedMs(work, predictMs(model, work)) : noise(predictMs(model, work), now),
    },
    side.router(machine),
    model,
    policy,
  );
  const asked = new Map(requests.map((request) => [request.id, request]));
  for (let next = run.next(); ; next = run.next()) {
    if (next.done === true) {
      return next.value.map((outcome) => {
        const { arrivedAt, budget } = outcome.request;
        const original = asked.get(outcome.request.id) ?? outcome.request;
        const judgedBy = side.repeatsRejected === true ? budget : original.budget;
        return { ...outcome, request: { ...original, arrivedAt, budget: judgedBy } };
      });
    }
  }
}

/** Requests per second that full depth completes with clients that never pause. */
export function capacityOf(requests: readonly SimulatedRequest[], machine: Machine): number {
  const deepest = machine.model.shape.exits.at(-1)?.layer ?? 0;
  const side = sidesOf([deepest]).at(-1);
  if (side === undefined) throw new Error('a model has an exit');
  const outcomes = serve(side, requests, machine);
  const endedAt = outcomes.reduce((latest, outcome) => Math.max(latest, outcome.endedAt), 0);
  return (1000 * outcomes.length) / endedAt;
}
