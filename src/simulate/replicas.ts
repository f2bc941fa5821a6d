/**
 * Several simulated servers behind a balancer that sends each request to the server with the fewest open ones, as the
 * files of deploy/ do. Must not know: what a server does with a request.
 */
import type { CostModel } from '../cost/model.js';
import type { Policy } from '../router/index.js';
import { type Machine, type Outcome, type RouterFacade, type SimulatedStep, simulate } from './engine.js';
import type { SimulatedRequest } from './request.js';

/** A server that takes requests while it runs. Times are ms on the clock of the requests. */
class Replica {
  readonly #taken: SimulatedRequest[] = [];
  readonly #steps: Generator<SimulatedStep, Outcome[], void>;
  #outcomes: readonly Outcome[] = [];
  #isOpen = true;
  /** When its next step begins, if a request is open. */
  #nextStart = 0;
  /** When the balancer chose it last. */
  chosenAt = -Infinity;

  constructor(machine: Machine, router: RouterFacade, costs: CostModel, policy: Policy) {
    this.#steps = simulate(this.#taken, machine, router, costs, policy, () => this.#isOpen);
  }

  /** Requests that have not ended at this time. */
  connections(at: number): number {
    return this.#taken.length - this.#outcomes.filter(({ endedAt }) => endedAt <= at).length;
  }

  /** Runs the steps that begin before this time. */
  runUntil(time: number): void {
    while (this.#taken.length > this.#outcomes.length && this.#nextStart < time) this.#step();
  }

  /** A server without work sleeps until the request. */
  take(request: SimulatedRequest): void {
    if (this.#taken.length === this.#outcomes.length) this.#nextStart = Math.max(this.#nextStart, request.arrivedAt);
    this.#taken.push(request);
  }

  finish(): Outcome[] {
    this.#isOpen = false;
    for (let next = this.#steps.next(); ; next = this.#steps.next()) if (next.done === true) return next.value;
  }

  #step(): void {
    const next = this.#steps.next();
    if (next.done === true) throw new Error('a server that takes requests has ended');
    this.#outcomes = next.value.outcomes;
    this.#nextStart = next.value.now;
  }
}

/**
 * Serves all requests, in order of arrival. Of servers with equally many open requests, the balancer takes the one that
 * it chose the longest time ago.
 * @param machines one for each server
 * @param routerOf makes the router of a server
 * @returns one outcome per request
 */
export function simulateReplicas(
  requests: readonly SimulatedRequest[],
  machines: readonly Machine[],
  routerOf: () => RouterFacade,
  costs: CostModel,
  policy: Policy,
): Outcome[] {
  const replicas = machines.map((machine) => new Replica(machine, routerOf(), costs, policy));
  for (const [i, request] of requests.entries()) {
    const at = request.arrivedAt;
    for (const replica of replicas) replica.runUntil(at);
    const [chosen] = replicas
      .map((replica) => ({ replica, open: replica.connections(at) }))
      .sort((a, b) => a.open - b.open || a.replica.chosenAt - b.replica.chosenAt);
    if (chosen === undefined) throw new Error('there must be at least one server');
    chosen.replica.chosenAt = i;
    chosen.replica.take(request);
  }
  return replicas.flatMap((replica) => replica.finish());
}
