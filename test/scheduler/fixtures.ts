/** Requests, engine states and simulated runs that the router's tests share, on the machine of sample.ts. */
import { type CostModel, predictMs } from '../../src/cost/model.js';
import {
  type Admission,
  type Admitted,
  type Budget,
  type EngineState,
  type LengthGroup,
  type LengthPrior,
  type OnMiss,
  type Policy,
  type PrefillChunk,
  type RequestView,
  Router,
  type SequenceView,
  defaultPolicy,
} from '../../src/scheduler/router.js';
import { OutputLengths, Worth } from '../../src/scheduler/output-length.js';
import { PlanningState } from '../../src/scheduler/snapshot.js';
import { type Machine, type Outcome, type SimulatedStep, simulate } from '../../src/simulate/engine.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { layers, sample, shape, table } from './sample.js';

export const NOW = 1000;
export const chat: LengthGroup = { kind: 'chat', key: null };
export const unstated: Budget = { totalMs: null, ttftMs: null, tpotMs: null, onMiss: 'continue' };
export const total = (totalMs: number, onMiss: OnMiss = 'continue'): Budget => ({ ...unstated, totalMs, onMiss });
/** An answer as chat clients ask for it: it may end anywhere. */
export const natural = { isExactLength: false, maxTokens: 1024 } as const;
/** Tokens within which nine of ten sentences end. */
export const SENTENCE = 24;

/** Median answers of 100 tokens at every exit, and few beyond 300. */
export const prior: LengthPrior = layers.map(() => [
  [0.1, 20],
  [0.25, 50],
  [0.5, 100],
  [0.75, 170],
  [0.9, 260],
]);

/** A request that arrives at NOW: 200 positions, an answer of exactly 50 tokens. It lands where its budget says so. */
export function asking(id: string, budget: Budget | null, more: Partial<RequestView> = {}): RequestView {
  const request: RequestView = {
    ...{ id, arrivedAt: NOW, promptLength: 200, generated: 0, firstTokenAt: null, maxTokens: 50, lands: false },
    ...{
      isExactLength: true,
      sentenceTokens: 0,
      lengthGroup: chat,
      tenant: '',
      exit: 30,
      minExit: 10,
      maxExit: 30,
      budget,
    },
    ...{ serviceClass: 'guaranteed', frontier: layers.map(() => 0), expectedFrontier: layers.map(() => 0) },
    ...more,
  };
  return more.lands === undefined ? within(request, request.budget) : request;
}

/** A request with another budget, which lands it where it may. */
export function within<T extends RequestView>(request: T, budget: Budget | null): T {
  const ends = budget?.onMiss === 'land' || budget?.onMiss === 'reject';
  return { ...request, budget, lands: ends && budget.totalMs !== null && !request.isExactLength };
}

/** A live sequence whose prompt has not begun. */
export function prompting(id: string, budget: Budget | null, more: Partial<SequenceView> = {}): SequenceView {
  return { ...asking(id, budget, more), lastTokenAt: null, ...more };
}

/** A live sequence in the middle of its answer: 40 tokens of 80 at its exit, one each 8 ms. */
export function answering(id: string, budget: Budget | null, more: Partial<SequenceView> = {}): SequenceView {
  const exit = more.exit ?? 30;
  const seen = 200 + (more.generated ?? 40) - 1;
  const frontier = more.frontier ?? layers.map((layer) => (layer <= exit ? seen : 0));
  return {
    ...prompting(id, budget, { arrivedAt: 0, generated: 40, maxTokens: 80, firstTokenAt: NOW - 39 * 8, ...more }),
    ...{ lastTokenAt: NOW, ...more },
    frontier,
    expectedFrontier: frontier,
  };
}

export function stateOf(parts: Partial<EngineState> = {}): EngineState {
  return { now: NOW, slots: 16, live: [], waiting: [], sentenceTokens: SENTENCE, kvPositions: 1e6, ...parts };
}

export function routerOf(policy: Partial<Policy> = {}, lengths: LengthPrior | null = prior, slowdown = 1): Router {
  return new Router(shape, table, { ...defaultPolicy, ...policy }, { lengths, kept: null }, slowdown);
}

/** Admission of one request by itself. */
export function admission(router: Router, request: RequestView, state: EngineState = stateOf()): Admission {
  const [only] = router.admit([request], state);
  if (only === undefined) throw new Error('one request has one admission');
  return only;
}

/** @throws Error where the request is rejected */
export function admitted(router: Router, request: RequestView, state: EngineState = stateOf()): Admitted {
  const answer = admission(router, request, state);
  if (answer.kind === 'reject') throw new Error(`request ${request.id} was to be admitted`);
  return answer;
}

/** The least budget that a rejection names. */
export function leastOf(router: Router, request: RequestView, state: EngineState = stateOf()): number | null {
  const answer = admission(router, within(request, total(1, 'reject')), state);
  if (answer.kind === 'admit') throw new Error('no request is answered within a millisecond');
  return answer.leastFeasibleMs;
}

/** Exit layer of each live sequence after planning, and the ids that skip the step. */
export function planOf(
  router: Router,
  state: EngineState,
): {
  readonly exits: ReadonlyMap<string, number>;
  readonly paused: readonly string[];
  readonly chunks: readonly PrefillChunk[];
} {
  const { exits, paused, chunks } = router.planStep(state);
  const changes = new Map(exits.map(({ id, exit }) => [id, exit]));
  return { exits: new Map(state.live.map(({ id, exit }) => [id, changes.get(id) ?? exit])), paused, chunks };
}

/** Ids of the waiting in order of service. */
export function orderOf(router: Router, state: EngineState): readonly string[] {
  return router.service(state).order;
}

/** Lets a request arrive at a router whose engine does not keep it. */
export function arrive(router: Router, request: RequestView, now = NOW): void {
  const none = (): void => undefined;
  router.step({
    state: () => stateOf({ now }),
    arrivals: () => [request],
    decide: () => ({ queued: [request], next: [] }),
    ...{ endDue: none, start: none, apply: none, endOverdue: none },
    select: () => ({ decode: null, prefill: [] }),
  });
}

/** A state in planning units, for parts of the router. */
export function planningState(
  parts: Partial<EngineState> = {},
  changes: Partial<Policy> = {},
  model: CostModel = sample,
): PlanningState {
  const policy = { ...defaultPolicy, ...changes };
  const lengths = new OutputLengths(layers.length, prior, policy);
  return new PlanningState(stateOf(parts), { model, policy, lengths, worth: new Worth(shape, null) }, Infinity);
}

/** A request of a simulation: 200 positions, an answer of 40 tokens at every exit, whose length the router knows. */
export function simulated(
  id: string,
  arrivedAt: number,
  budget: Budget | null,
  more: Partial<SimulatedRequest> = {},
): SimulatedRequest {
  return {
    ...{ id, arrivedAt, promptLength: 200, lengths: layers.map(() => 40), maxTokens: 40, isExactLength: true },
    ...{ lengthGroup: chat, budget, minExit: null, maxExit: null, budgetClass: 'any' },
    ...more,
  };
}

export interface Setting {
  readonly machine?: Partial<Machine>;
  readonly policy?: Partial<Policy>;
  readonly router?: Router;
  readonly costs?: CostModel;
}

export interface Run {
  readonly outcomes: Outcome[];
  readonly steps: SimulatedStep[];
}

/** Serves all requests to their end on a machine that takes what its table says, 16 slots where nothing else is said. */
export function serve(requests: readonly SimulatedRequest[], setting: Setting = {}): Run {
  const { machine = {}, policy: changes = {}, costs = sample } = setting;
  const policy = { ...defaultPolicy, requestOverheadMs: 0, ...changes };
  const router = setting.router ?? routerOf(policy);
  const actual: Machine['actual'] = (work) => predictMs(costs, work);
  const run = simulate(requests, { slots: 16, kvPositions: 1e6, actual, ...machine }, router, costs, policy);
  const steps: SimulatedStep[] = [];
  for (let next = run.next(); ; next = run.next()) {
    if (next.done === true) return { outcomes: next.value, steps };
    steps.push(next.value);
  }
}

/** @throws Error where no outcome has the id */
export function outcomeOf(outcomes: readonly Outcome[], id: string): Outcome {
  const found = outcomes.find(({ request }) => request.id === id);
  if (found === undefined) throw new Error(`request ${id} has no outcome`);
  return found;
}
