/** Several simulated servers behind a balancer. Must not know: what a server does with a request. */
import type { CostModel } from '../cost/model.js';
import type { Policy } from '../scheduler/router.js';
import type { Balancer, FleetRequest } from './balance.js';
import type { Machine, Outcome, RouterFacade } from './engine.js';
import { Replica } from './replica.js';

/** Servers that are lost at one time, as with their zone. */
export interface Loss {
  /** Ms on the clock of the requests. */
  readonly at: number;
  /** Indices of the servers. */
  readonly servers: readonly number[];
}

export interface Fleet {
  /** One for each server. */
  readonly machines: readonly Machine[];
  /** Makes the router of a server. */
  readonly routerOf: () => RouterFacade;
  readonly costs: CostModel;
  readonly policy: Policy;
  readonly balancer: Balancer;
  readonly loss?: Loss;
}

export interface FleetRun {
  readonly outcomes: Outcome[];
  /** Requests whose answer broke off with its server. */
  readonly lost: readonly FleetRequest[];
}

/** A request that the proxy repeats: it has the rest of its budget. */
function repeated(request: FleetRequest, at: number): FleetRequest {
  const { budget, arrivedAt } = request;
  const less = (ms: number | null): number | null => (ms === null ? null : Math.max(1, ms - (at - arrivedAt)));
  return {
    ...request,
    arrivedAt: at,
    budget: budget && { ...budget, totalMs: less(budget.totalMs), ttftMs: less(budget.ttftMs) },
  };
}

/**
 * Serves all requests, in order of arrival. A request whose server is lost before its first token is repeated.
 * @throws Error if all servers are lost
 */
export function simulateFleet(requests: readonly FleetRequest[], fleet: Fleet): FleetRun {
  const { machines, routerOf, costs, policy, balancer, loss } = fleet;
  let up = machines.map((machine) => new Replica(machine, routerOf(), costs, policy));
  const outcomes: Outcome[] = [];
  const lost: FleetRequest[] = [];
  const give = (request: FleetRequest): void => {
    const at = request.arrivedAt;
    for (const replica of up) replica.runUntil(at);
    const chosen = up[balancer(up, request, at)];
    if (chosen === undefined) throw new Error('there must be at least one server');
    chosen.take(request);
  };
  let pending = loss;
  for (const request of requests) {
    if (pending !== undefined && request.arrivedAt >= pending.at) {
      const { at, servers } = pending;
      pending = undefined;
      const gone = up.filter((_, i) => servers.includes(i)).map((replica) => replica.stop(at));
      up = up.filter((_, i) => !servers.includes(i));
      for (const { outcomes: ended, begun, waiting } of gone) {
        outcomes.push(...ended);
        lost.push(...begun);
        for (const each of waiting) give(repeated(each, at));
      }
    }
    give(request);
  }
  for (const replica of up) for (const outcome of replica.finish()) outcomes.push(outcome);
  return { outcomes, lost };
}
