/**
 * Admission control: the exit, the service class and the prediction of new requests, or the least budget that would be
 * guaranteed.
 */
import { type ExitIndex, at, deepestFirst } from '../cost/model.js';
import { cutAt, hasBudget } from '../protocol/early-end.js';
import type { Admitted, DepthReason } from '../protocol/index.js';
import { type Arrival, deepestUnder, expectedAt } from './depth-bound.js';
import { type Exits, chooseExits, forecast } from './exit-choice.js';
import { type FirstSentences, firstSentences, isUseful, landsWithin, paceOf } from './first-sentence.js';
import type { BatchOutcome } from './forecast.js';
import { type LeastBudget, type SearchTime, leastBudget } from './least-budget.js';
import type { Estimates, PlannedRequest } from './planned-request.js';
import { promisedWork } from './promised-work.js';
import { Refusals } from './refusals.js';
import type { SafetyMargins } from './safety-margin.js';
import type { Sequence, Terms } from './sequence.js';
import { type Occupancy, type Proposal, Snapshot, proposed } from './snapshot.js';
import { type Trial, tried } from './trial.js';
import type { Admission, Rejected } from './types.js';

/** The inputs of admission, beside the estimates of every plan. */
export interface AdmissionInputs extends Estimates {
  readonly arrivals: readonly Arrival[];
  readonly margins: SafetyMargins;
  /** Planning time that the step has left for the least budgets of rejections. */
  readonly searchTime: SearchTime;
}

interface Admittance {
  readonly kind: 'admit';
  readonly isPromised: boolean;
}

type Decision = Admittance | Rejected;

/**
 * Admits what arrived since the last step. Promises are made one after the other; exits and predictions know of all
 * that are admitted, so the first of a burst is not predicted as if it were alone.
 * @param groups by decidedTogether
 * @param engine without them
 * @returns by request
 */
export function admitAll(
  groups: readonly (readonly Sequence[])[],
  engine: Occupancy,
  inputs: AdmissionInputs,
): Admission[] {
  const round = new Round(engine, inputs);
  const decisions = groups.flatMap((choices) => round.decide(choices));
  const state = round.stateWith([]);
  const exits = round.exitsOf(state);
  const outcomes = forecast(state, exits);
  return groups.flat().map((sequence, i) => {
    const decision = at(decisions, i);
    if (decision.kind === 'reject') return decision;
    const index = state.requests.findIndex((each) => each.sequence === sequence);
    const self = at(state.requests, index);
    return admitted(state, self, exits.get(self) ?? self.currentExit, decision.isPromised, at(outcomes, index));
  });
}

/** The decisions of one step, each with those before it. */
class Round {
  readonly #taken: Proposal[] = [];
  /** Of the requests so far; null where none is known. */
  #sentences: FirstSentences | null = null;
  /** Since the last admission. */
  readonly #refusals = new Refusals();

  constructor(
    private readonly engine: Occupancy,
    private readonly inputs: AdmissionInputs,
  ) {}

  stateWith(more: readonly Proposal[]): Snapshot {
    return this.#stateOf([...this.#taken, ...more]);
  }

  #stateOf(added: readonly Proposal[]): Snapshot {
    const waiting = [...this.engine.waiting, ...added];
    return new Snapshot({ ...this.engine, waiting }, this.inputs, Infinity);
  }

  exitsOf(state: Snapshot): Exits {
    const { arrivals, policy } = this.inputs;
    return chooseExits(state, deepestUnder(state, expectedAt(arrivals, this.engine.now, policy)));
  }

  /** @param choices a group of decidedTogether @returns by choice */
  decide(choices: readonly Sequence[]): Decision[] {
    if (at(choices, 0).budget?.onMiss === 'reject') {
      const isPromised = !this.#refusals.covers(choices) && this.#isPromised(choices);
      return isPromised ? choices.map((each) => this.#take(each, true)) : this.#reject(choices);
    }
    const decisions = choices.map((each) => this.#take(each, this.#isPromised([each])));
    // A promise covers a sentence, and makes no older one late.
    if (decisions.every(({ isPromised }) => isPromised) || !choices.some(({ lands }) => lands)) {
      this.#sentences = null;
      return decisions;
    }
    const before = this.#sentences ?? this.#sentencesOf(this.#taken.slice(0, -choices.length));
    const after = this.#sentencesOf(this.#taken);
    if (isUseful(choices, before, after, this.inputs.policy)) {
      this.#sentences = after;
      return decisions;
    }
    this.#taken.splice(-choices.length);
    this.#sentences = before;
    return this.#reject(choices);
  }

  #take(request: Sequence, isPromised: boolean): Admittance {
    this.#refusals.clear();
    this.#taken.push(proposed(request, { serviceClass: isPromised ? 'guaranteed' : 'best_effort' }));
    return { kind: 'admit', isPromised };
  }

  #isPromised(choices: readonly Sequence[]): boolean {
    if (!at(choices, 0).hasBudget) return false;
    const { isInTime, hasMemory } = this.#attempt(choices, {}, 1);
    return isInTime && hasMemory;
  }

  /** @param change of the terms of the choices @param surge factor on the time of steps */
  #attempt(choices: readonly Sequence[], change: Partial<Terms>, surge: number): Trial {
    const factor = surge * this.#factorOf(at(choices, 0));
    const asked = choices.map((each) => proposed(each, { ...change, serviceClass: 'guaranteed' }));
    return tried(this.stateWith(asked), new Set(choices), factor);
  }

  /** Factor on the times of a tenant's promises. */
  #factorOf({ tenant }: Sequence): number {
    return 1 + this.inputs.margins.at(tenant, this.engine.now);
  }

  #reject(choices: readonly Sequence[]): Decision[] {
    const least = this.#refusals.least(choices, () => this.#leastOf(choices));
    const leastFeasibleMs = typeof least === 'number' ? least : null;
    const rejected: Rejected = { kind: 'reject', leastFeasibleMs, ...(least === 'unsought' && { isUnsought: true }) };
    const [first] = choices;
    if (first?.isDryRun !== true) return choices.map(() => rejected);
    const promised = promisedWork(first, this.stateWith([]), this.#factorOf(first));
    return choices.map(() => ({ ...rejected, promised }));
  }

  #leastOf(choices: readonly Sequence[]): LeastBudget {
    const { policy, searchTime } = this.inputs;
    const { tenant, arrivedAt } = at(choices, 0);
    const state = this.stateWith([]);
    const waitedMs = state.now - arrivedAt + policy.requestOverheadMs;
    const requests = state.requests.length + choices.length;
    const surge = surgeOf(this.inputs);
    return leastBudget({ waitedMs, retryMs: waitedMs + nextStepMs(state) }, policy, (totalMs) => {
      const budget = { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' } as const;
      return searchTime.take(tenant, requests) ? this.#attempt(choices, { budget }, surge) : null;
    });
  }

  #sentencesOf(taken: readonly Proposal[]): FirstSentences {
    const state = this.#stateOf(taken);
    return firstSentences(state, this.exitsOf(state));
  }
}

/** How many times slower than the learned pace the slowest of the last steps was: the pace may get there. */
function surgeOf({ model: { drift } }: Estimates): number {
  return Math.max(1, ...drift.ratios.map((ratio) => ratio / drift.slowdown));
}

/** Requests by themselves, and the choices of one that may be rejected together: a rejection of one rejects all. */
export function decidedTogether(arrived: readonly Sequence[]): readonly (readonly Sequence[])[] {
  const groups: Sequence[][] = [];
  for (const request of arrived) {
    const last = groups.at(-1);
    const [first] = last ?? [];
    if (first !== undefined && isSibling(first, request)) last?.push(request);
    else groups.push([request]);
  }
  return groups;
}

function isSibling(a: Sequence, b: Sequence): boolean {
  // The choices of one answer share their fields.
  if (a.lands && a.request.depth === b.request.depth) return true;
  const mayReject = a.budget?.onMiss === 'reject' && b.budget?.onMiss === 'reject';
  return mayReject && a.arrivedAt === b.arrivedAt && a.budget.totalMs === b.budget.totalMs;
}

/** Milliseconds of the step that begins, about. */
function nextStepMs({ requests, policy, batchStepMs }: Snapshot): number {
  let prefillMs = 0;
  for (const each of requests) if (each.isPrefilling) prefillMs += each.prefillMs(each.currentExit);
  return batchStepMs + Math.min(policy.maxStallMs, prefillMs);
}

/** The answer to a request that is admitted: its times by the play, its lengths by the estimate, within its budget. */
function admitted(
  state: Snapshot,
  self: PlannedRequest,
  exit: ExitIndex,
  isPromised: boolean,
  outcome: BatchOutcome,
): Exclude<Admission, Rejected> {
  const { sequence } = self;
  const { budget, generated } = sequence;
  const { firstTokenAt, tokenMs: tpotMs, steps } = paceOf(state, self, exit, outcome);
  const ttftMs = state.now + firstTokenAt - (sequence.arrivedAt - state.policy.requestOverheadMs);
  const isCut = cutAt(sequence) < Infinity;
  const tokens = (share: number): number => {
    const whole = self.stepsLeft(exit, share);
    return isCut ? Math.min(whole, Math.max(1, Math.floor(steps))) : whole;
  };
  const totalMs = (share: number): number => {
    const ms = ttftMs + Math.max(0, tokens(share) - 1) * tpotMs;
    return isCut ? Math.min(ms, budget?.totalMs ?? Infinity) : ms;
  };
  const probability = sequence.lands ? landsWithin(self, exit, steps, state) : self.probabilityWithin(exit, steps);
  return {
    kind: 'admit',
    exit: at(state.model.shape.exits, exit).layer,
    reason: reasonOf(state, self, exit),
    ...promptDepthAt(state, self, exit),
    serviceClass: !hasBudget(budget) ? 'none' : isPromised ? 'guaranteed' : 'best_effort',
    predictedTtftMs: ttftMs,
    predictedTpotMs: tpotMs,
    predictedMs: totalMs(0.5),
    predictedP10Ms: totalMs(0.1),
    predictedP90Ms: totalMs(0.9),
    expectedTokens: generated + tokens(0.5),
    expectedTokensP90: generated + tokens(0.9),
    probability: budget?.totalMs == null ? null : probability,
    guaranteedTokens: generated + self.guaranteedSteps(exit),
    exitIndex: exit,
  };
}

/** Why a request has an exit: the first cause that alone explains it. */
function reasonOf(state: Snapshot, self: PlannedRequest, exit: ExitIndex): DepthReason {
  if (exit === self.maxExit) return 'deepest';
  const alone = new Snapshot({ ...state.occupancy, live: [], waiting: [self.sequence] }, state);
  const depths = deepestFirst(state.model.shape);
  const own = chooseExits(alone, at(depths, 0)).get(at(alone.requests, 0)) ?? exit;
  return depths.indexOf(own) < depths.indexOf(exit) ? 'load' : 'budget';
}

/** The depth of a prompt at an exit, for a model that offers two. */
function promptDepthAt(
  { model: { shape } }: Snapshot,
  { sequence }: PlannedRequest,
  exit: ExitIndex,
): Pick<Admitted, 'promptDepth'> {
  if (sequence.request.depth.promptDepth === undefined) return {};
  return { promptDepth: at(shape.exits, exit).promptDepth ?? null };
}
