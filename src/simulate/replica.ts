/** One of several simulated servers: it takes requests while it runs, and reports its load. */
import type { CostModel, Work } from '../cost/model.js';
import type { Policy } from '../scheduler/router.js';
import { LoadMeter } from '../util/load-meter.js';
import type { FleetRequest, Server } from './balance.js';
import { type Machine, type Outcome, type RouterFacade, type SimulatedStep, simulate } from './engine.js';
import type { LiveRequest, SimulatedRequest } from './request.js';

/** Times are ms on the clock of the requests. */
export class Replica implements Server {
  readonly #taken: FleetRequest[] = [];
  readonly #sessions = new Set<string>();
  readonly #steps: Generator<SimulatedStep, Outcome[], void>;
  readonly #costs: CostModel;
  readonly #meter: LoadMeter;
  #outcomes: readonly Outcome[] = [];
  #live: readonly LiveRequest[] = [];
  #isOpen = true;
  /** When its next step begins, if a request is open. */
  #nextStart = 0;
  /** Outcomes that have been counted, and the tokens that the open requests still have. */
  #counted = 0;
  #left = 0;
  report: Server['report'] = null;

  constructor(machine: Machine, router: RouterFacade, costs: CostModel, policy: Policy) {
    this.#costs = costs;
    this.#meter = new LoadMeter(
      () => 0,
      () => this.#left,
      0,
    );
    this.#steps = simulate(this.#taken, machine, router, costs, policy, () => this.#isOpen);
  }

  connections(at: number): number {
    let ended = this.#outcomes.length;
    // A step that began before this time may end answers after it.
    while (ended > 0 && (this.#outcomes[ended - 1]?.endedAt ?? 0) > at) ended--;
    return this.#taken.length - ended;
  }

  /** Runs the steps that begin before this time. */
  runUntil(time: number): void {
    while (this.#taken.length > this.#outcomes.length && this.#nextStart < time) this.#step();
  }

  /** A server without work sleeps until the request. */
  take(request: FleetRequest): void {
    if (this.#taken.length === this.#outcomes.length) this.#nextStart = Math.max(this.#nextStart, request.arrivedAt);
    const { session, sharedPositions = 0, promptLength } = request;
    const isKnown = session !== undefined && this.#sessions.has(session);
    if (session !== undefined) this.#sessions.add(session);
    this.#taken.push(isKnown ? { ...request, promptLength: Math.max(1, promptLength - sharedPositions) } : request);
    this.#left += lengthOf(request);
  }

  finish(): Outcome[] {
    this.#isOpen = false;
    for (let next = this.#steps.next(); ; next = this.#steps.next()) if (next.done === true) return next.value;
  }

  /**
   * Stops the server after the steps that began before this time.
   * @returns its outcomes, and its open requests by whether the client has a first byte
   */
  stop(at: number): { outcomes: readonly Outcome[]; begun: FleetRequest[]; waiting: FleetRequest[] } {
    this.runUntil(at);
    const ended = new Set(this.#outcomes.map(({ request }) => request.id));
    const begun = new Set(this.#live.filter(({ firstTokenAt }) => firstTokenAt !== null).map(({ id }) => id));
    const open = this.#taken.filter(({ id }) => !ended.has(id));
    return {
      outcomes: this.#outcomes,
      begun: open.filter(({ id }) => begun.has(id)),
      waiting: open.filter(({ id }) => !begun.has(id)),
    };
  }

  #step(): void {
    const next = this.#steps.next();
    if (next.done === true) throw new Error('a server that takes requests has ended');
    const { outcomes, now, ms, work, live } = next.value;
    this.#outcomes = outcomes;
    this.#live = live;
    this.#nextStart = now;
    const tokens = (work.decode?.rows ?? []).reduce((sum, rows) => sum + rows, 0);
    this.#left -= tokens;
    this.#meter.step(tokens, ms * floorShare(work, this.#costs), now);
    for (; this.#counted < outcomes.length; this.#counted++) {
      const outcome = outcomes[this.#counted];
      // An answer that ended early leaves no tokens.
      if (outcome !== undefined) this.#left -= lengthOf(outcome.request) - outcome.tokens;
      const load = this.#meter.read(now);
      this.report = load && { ...load, at: now };
    }
  }
}

/** The expected length of an answer: that of full depth. */
function lengthOf({ lengths, maxTokens }: SimulatedRequest): number {
  return Math.min(maxTokens, lengths.at(-1) ?? maxTokens);
}

/** The share of a step that its work would take at the shallowest exit, by layers. */
function floorShare({ decode, prefill }: Work, { shape }: CostModel): number {
  const layerOf = (exit: number): number => shape.exits[exit]?.layer ?? 1;
  const parts = [
    ...(decode?.rows ?? []).map((rows, exit) => ({ size: rows, exit })),
    ...prefill.map(({ positions, exit }) => ({ size: positions, exit })),
  ];
  const all = parts.reduce((sum, { size }) => sum + size, 0);
  return all === 0 ? 1 : parts.reduce((sum, { size, exit }) => sum + (size * layerOf(0)) / layerOf(exit), 0) / all;
}
