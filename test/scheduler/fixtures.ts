/** Sequences, engine states and simulated runs that the scheduler's tests share, on the machine of sample.ts. */
import { type CostModel, predictMs } from '../../src/engine/scheduler/cost/model.js';
import type { Admitted, Budget, ExitIndex, AnswerKind, OnMiss, ServiceClass } from '../../src/protocol/index.js';
import { Slot, type ExitUnits, type Units, exitOfLayer } from '../../src/engine/scheduler/kv/units.js';
import { type LengthPrior, OutputLengths, SentenceLength } from '../../src/engine/scheduler/output-length.js';
import { Planner } from '../../src/engine/scheduler/planner.js';
import { type Policy, defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Scheduler } from '../../src/engine/scheduler/scheduler.js';
import { Sequence } from '../../src/engine/scheduler/sequence.js';
import { type Occupancy, type Snapshot, snapshotOf } from '../../src/engine/scheduler/snapshot.js';
import type { Planned, Rejected } from '../../src/engine/scheduler/types.js';
import { type Outcome, type SimulatedStep, simulate } from '../simulator/simulated-engine.js';
import { type Machine, simulatedScheduler, unitsOfShape } from '../simulator/machine.js';
import type { SimulatedRequest } from '../simulator/simulated-request.js';
import { greedy } from '../../bench/greedy-request.js';
import { layers, sample, shape, table } from './sample.js';

export const NOW = 1000;
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

export const units: Units = unitsOfShape(shape);
const JSON_TEXT = { kind: 'json', schema: '{}' } as const;

/** The parts of a sequence that a test states; the rest is usual. */
export interface Given {
  readonly arrivedAt?: number;
  readonly promptLength?: number;
  readonly generated?: number;
  readonly firstTokenAt?: number | null;
  readonly lastTokenAt?: number | null;
  readonly maxTokens?: number;
  readonly isExactLength?: boolean;
  readonly sentenceTokens?: number;
  readonly kind?: AnswerKind;
  readonly tenant?: string;
  /** Exit layers. */
  readonly exit?: number;
  readonly minExit?: number;
  readonly maxExit?: number;
  readonly serviceClass?: ServiceClass;
  readonly isDryRun?: boolean;
  readonly isNet?: boolean;
  /** Positions by unit. */
  readonly frontier?: readonly number[];
  /** Whether its text may end at the end of a sentence; default: true. */
  readonly mayEnd?: boolean;
}

const END = 1;

export function exitOf(layer: number, exits: readonly ExitUnits[] = units.exits): ExitIndex {
  return exitOfLayer(exits, layer);
}

/** A request that arrives at NOW: 200 positions, an answer of exactly 50 tokens. It lands where its budget says so. */
export function asking(id: string, budget: Budget | null, given: Given = {}, own: Units = units): Sequence {
  const { arrivedAt = NOW, promptLength = 200, maxTokens = 50, isExactLength = true, generated = 0 } = given;
  const [first = 0, last = 0] = [own.exits[0]?.layer, own.exits.at(-1)?.layer];
  const request = greedy(id, new Array<number>(promptLength).fill(7), last, maxTokens, {
    arrivedAt,
    stopTokens: isExactLength ? [] : [END],
    depth: { minExit: given.minExit ?? first, maxExit: given.maxExit ?? last, budget },
    kind: given.kind ?? 'chat',
    ...(given.tenant !== undefined && { tenant: given.tenant }),
    ...(given.mayEnd === false && { grammar: JSON_TEXT }),
    ...(given.isDryRun === true && { isDryRun: true }),
    ...(given.isNet === true && { isNet: true }),
  });
  const sequence = new Sequence(request, own.exits);
  for (let i = 0; i < generated; i++) sequence.tokens.push(7);
  sequence.exit = exitOf(given.exit ?? last, own.exits);
  sequence.serviceClass = given.serviceClass ?? 'guaranteed';
  sequence.firstTokenAt = given.firstTokenAt ?? null;
  sequence.lastTokenAt = given.lastTokenAt ?? null;
  sequence.sentence.tokens = given.sentenceTokens ?? 0;
  if (given.frontier !== undefined) store(sequence, given.frontier);
  return noted(sequence, asking, given, own);
}

type Make = (id: string, budget: Budget | null, given: Given, own: Units) => Sequence;
const origins = new WeakMap<Sequence, { readonly make: Make; readonly given: Given; readonly own: Units }>();

function noted(sequence: Sequence, make: Make, given: Given, own: Units): Sequence {
  origins.set(sequence, { make, given, own });
  return sequence;
}

/** The same sequence, but for what changes. */
export function changed(
  sequence: Sequence,
  { id = sequence.id, budget = sequence.budget, ...change }: Given & { id?: string; budget?: Budget | null },
): Sequence {
  const origin = origins.get(sequence);
  if (origin === undefined) throw new Error(`sequence ${sequence.id} is of no fixture`);
  return origin.make(id, budget, { ...origin.given, ...change }, origin.own);
}

/** The same sequence with another budget. */
export function within(sequence: Sequence, budget: Budget | null): Sequence {
  return changed(sequence, { budget });
}

/** A stored prefix, for a sequence without a slot. */
function store(sequence: Sequence, frontier: readonly number[]): void {
  const slot = slotWith(frontier);
  sequence.prefix = { slot, tokens: slot.tokens, length: Math.max(...frontier) };
}

function slotWith(frontier: readonly number[]): Slot {
  const slot = new Slot(0, frontier.length);
  frontier.forEach((positions, unit) => {
    slot.reach(unit, positions);
  });
  return slot;
}

/** A live sequence whose prompt has not begun. */
export function prompting(id: string, budget: Budget | null, given: Given = {}, own: Units = units): Sequence {
  const { frontier, ...rest } = given;
  const sequence = asking(id, budget, rest, own);
  sequence.slot = slotWith(frontier ?? own.stages.map(() => 0));
  sequence.slot.tokens = sequence.tokens;
  sequence.slot.live = true;
  return noted(sequence, prompting, given, own);
}

/** A live sequence in the middle of its answer: 40 tokens of 80 at its exit, one each 8 ms. */
export function answering(id: string, budget: Budget | null, given: Given = {}, own: Units = units): Sequence {
  const { exit = 30, generated = 40, promptLength = 200 } = given;
  const seen = promptLength + generated - 1;
  const frontier = given.frontier ?? layers.map((layer) => (layer <= exit ? seen : 0));
  const times = { firstTokenAt: NOW - 39 * 8, lastTokenAt: NOW };
  const sequence = prompting(id, budget, { arrivedAt: 0, generated, maxTokens: 80, ...times, ...given, frontier }, own);
  return noted(sequence, answering, given, own);
}

export function stateOf(parts: Partial<Occupancy> = {}): Occupancy {
  return { now: NOW, slots: 16, live: [], waiting: [], kvPositions: 1e6, ...parts };
}

export function plannerOf(policy: Partial<Policy> = {}, lengths: LengthPrior | null = prior, slowdown = 1): Planner {
  return new Planner(shape, table, { ...defaultPolicy, ...policy }, { lengths }, slowdown);
}

/** Lets a request arrive at a planner whose engine does not keep it. */
export function arrive(planner: Planner, request: Sequence, now = NOW): void {
  const state = stateOf({ now });
  planner.admit([request], state);
  planner.observeArrivals([request], state);
  planner.decide(state);
}

/** Admission of one request by itself. */
export function admission(planner: Planner, request: Sequence, state: Occupancy = stateOf()): Planned | Rejected {
  const [only] = planner.admit([request], state);
  if (only === undefined || only.kind === 'arm') throw new Error('one request has one admission');
  return only;
}

/** @throws Error where the request is rejected */
export function admitted(planner: Planner, request: Sequence, state: Occupancy = stateOf()): Admitted {
  const answer = admission(planner, request, state);
  if (answer.kind === 'reject') throw new Error(`request ${request.id} was to be admitted`);
  return answer;
}

/** The least budget that a rejection names. */
export function leastOf(planner: Planner, request: Sequence, state: Occupancy = stateOf()): number | null {
  const answer = admission(planner, within(request, total(1, 'reject')), state);
  if (answer.kind === 'admit') throw new Error('no request is answered within a millisecond');
  return answer.leastFeasibleMs;
}

/** Exit layer of each live sequence after planning, and the ids that skip the step. */
export function planOf(
  planner: Planner,
  state: Occupancy,
): {
  readonly exits: ReadonlyMap<string, number>;
  readonly paused: readonly string[];
  readonly chunks: readonly { readonly id: string; readonly positions: number }[];
} {
  const { exits, paused, chunks } = planner.decide(state);
  const layerOf = (each: Sequence): number => layers[exits.get(each) ?? each.exit] ?? NaN;
  return {
    exits: new Map(state.live.map((each) => [each.id, layerOf(each)])),
    paused: [...paused].map(({ id }) => id),
    chunks: chunks.map(({ sequence: { id }, positions }) => ({ id, positions })),
  };
}

/** Ids of the waiting in order of service. */
export function orderOf(planner: Planner, state: Occupancy): readonly string[] {
  return planner.serviceOrder(state).order.map(({ id }) => id);
}

/** A state in planning units, for parts of the planner. */
export function snapshot(
  parts: Partial<Occupancy> = {},
  changes: Partial<Policy> = {},
  model: CostModel = sample,
): Snapshot {
  const policy = { ...defaultPolicy, ...changes };
  const lengths = new OutputLengths(layers.length, prior, policy);
  return snapshotOf(stateOf(parts), { model, policy, lengths, sentences: new SentenceLength(policy) });
}

/** A request of a simulation: 200 positions, an answer of 40 tokens at every exit, whose length the scheduler knows. */
export function simulated(
  id: string,
  arrivedAt: number,
  budget: Budget | null,
  more: Partial<SimulatedRequest> = {},
): SimulatedRequest {
  return {
    ...{ id, arrivedAt, promptLength: 200, lengths: layers.map(() => 40), maxTokens: 40, isExactLength: true },
    ...{ kind: 'chat', budget, minExit: null, maxExit: null, budgetClass: 'any' },
    ...more,
  };
}

export interface Setting {
  readonly machine?: Partial<Machine>;
  readonly policy?: Partial<Policy>;
  readonly lengths?: LengthPrior | null;
  readonly slowdown?: number;
  /** The real costs of steps. */
  readonly costs?: CostModel;
  /** Goes on with what it has learnt. */
  readonly scheduler?: Scheduler;
}

export interface Run {
  readonly outcomes: Outcome[];
  readonly steps: SimulatedStep[];
  readonly scheduler: Scheduler;
}

/** Serves all requests to their end on a machine that takes what its table says, 16 slots where nothing else is said. */
export function serve(requests: readonly SimulatedRequest[], setting: Setting = {}): Run {
  const { policy: changes = {}, costs = sample, lengths = prior, slowdown = 1 } = setting;
  const policy = { ...defaultPolicy, requestOverheadMs: 0, ...changes };
  const actual: Machine['actual'] = (work) => predictMs(costs, work);
  const machine = { slots: 16, kvPositions: 1e6, actual, ...setting.machine };
  const priors = { lengths };
  const scheduler = setting.scheduler ?? simulatedScheduler(machine, { shape, table, policy, priors, slowdown });
  const run = simulate(requests, machine, scheduler);
  const steps: SimulatedStep[] = [];
  for (let next = run.next(); ; next = run.next()) {
    if (next.done === true) return { outcomes: next.value, steps, scheduler };
    steps.push(next.value);
  }
}

/** @throws Error where no outcome has the id */
export function outcomeOf(outcomes: readonly Outcome[], id: string): Outcome {
  const found = outcomes.find(({ request }) => request.id === id);
  if (found === undefined) throw new Error(`request ${id} has no outcome`);
  return found;
}
