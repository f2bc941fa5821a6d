/**
 * Admission control: the exit, the service class and the prediction of new requests, or the least budget that would be
 * guaranteed.
 */
import { type ExitIndex, at, deepestOf } from './cost/model.js';
import { cutAt, hasBudget } from '../../protocol/early-end.js';
import type { DepthReason } from '../../protocol/index.js';
import { type Arrival, depthBound, type DepthValues, expectedAt } from './depth-bound.js';
import { type Exits, chooseExits, forecast } from './exit-choice.js';
import { type FirstSentences, firstSentences, isUseful, paceOf } from './first-sentence.js';
import type { BatchOutcome } from './forecast.js';
import { type LeastBudget, type SearchTime, leastBudget } from './least-budget.js';
import type { Estimates, PlannedRequest } from './planned-request.js';
import { promisedWork } from './promised-work.js';
import type { Refusals } from './refusals.js';
import type { SafetyMargins } from './safety-margin.js';
import type { Sequence, Terms } from './sequence.js';
import { type Occupancy, PlannedRequests, type Proposal, Snapshot, proposed } from './snapshot.js';
import { type Trial, tried } from './trial.js';
import type { Admission, Rejected } from './types.js';

/** The inputs of admission, beside the estimates of every plan. */
export interface AdmissionInputs extends Estimates {
  readonly arrivals: readonly Arrival[];
  /** Those of the last step. */
  readonly depthValues: DepthValues;
  readonly margins: SafetyMargins;
  /** Planning time that the step has left for the least budgets of rejections. */
  readonly searchTime: SearchTime;
  readonly refusals: Refusals;
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
  const rejections = decisions.flatMap((decision) => (decision.kind === 'reject' ? [decision] : []));
  if (rejections.length === decisions.length) return rejections;
  const state = round.stateWith([]);
  const exits = round.exitsOf(state);
  const outcomes = forecast(state, exits);
  const places = new Map(state.requests.map(({ sequence }, place) => [sequence, place]));
  return groups.flat().map((sequence, i) => {
    const decision = at(decisions, i);
    if (decision.kind === 'reject') return decision;
    const place = places.get(sequence) ?? NaN;
    const self = at(state.requests, place);
    return admitted(state, self, exits.get(self) ?? self.currentExit, decision.isPromised, at(outcomes, place));
  });
}

/** The decisions of one step, each with those before it. */
class Round {
  readonly #taken: Proposal[] = [];
  /** Of the requests so far; null where none is known. */
  #sentences: FirstSentences | null = null;
  readonly #planned = new PlannedRequests();
  /** Bound of the load on depth, as of the first request. */
  #deepest: ExitIndex | null = null;

  constructor(
    private readonly engine: Occupancy,
    private readonly inputs: AdmissionInputs,
  ) {}

  stateWith(more: readonly Proposal[]): Snapshot {
    return this.#stateOf([...this.#taken, ...more]);
  }

  #stateOf(added: readonly Proposal[]): Snapshot {
    const waiting = [...this.engine.waiting, ...added];
    return new Snapshot({ ...this.engine, waiting }, this.inputs, Infinity, this.#planned);
  }

  exitsOf(state: Snapshot): Exits {
    return chooseExits(state, this.#deepestOf(state));
  }

  #deepestOf(state: Snapshot): ExitIndex {
    const { arrivals, policy, depthValues } = this.inputs;
    return depthBound(state, expectedAt(arrivals, this.engine.now, policy), depthValues).deepest;
  }

  /** @param choices a group of decidedTogether @returns by choice */
  decide(choices: readonly Sequence[]): Decision[] {
    const { refusals } = this.inputs;
    const isCovered = !isOfNet(at(choices, 0)) && refusals.covers(choices, this.engine.now);
    const decisions = isCovered ? null : this.#admit(choices);
    if (decisions === null) return this.#reject(choices);
    // A dry run changes nothing for the next ones.
    if (!at(choices, 0).isDryRun) refusals.clear();
    return decisions;
  }

  /** @returns null for a rejection */
  #admit(choices: readonly Sequence[]): Decision[] | null {
    if (at(choices, 0).budget?.onMiss === 'reject')
      return this.#isPromised(choices) ? choices.map((each) => this.#take(each, true)) : null;
    const promised = this.#promisedOf(choices);
    const decisions = choices.map((each, i) => this.#take(each, i < promised));
    // A promise covers a sentence, and makes no older one late.
    if (decisions.every(({ isPromised }) => isPromised) || !choices.some(({ lands }) => lands)) {
      this.#sentences = null;
      return decisions;
    }
    const before = this.#sentences ?? this.#sentencesOf(this.#taken.slice(0, -choices.length));
    const after = this.#sentencesOf(this.#taken);
    const isKept = isUseful(choices, before, after, this.inputs.policy);
    if (!isKept) this.#taken.splice(-choices.length);
    this.#sentences = isKept ? after : before;
    return isKept ? decisions : null;
  }

  #take(request: Sequence, isPromised: boolean): Admittance {
    this.#taken.push(proposed(request, { serviceClass: isPromised ? 'guaranteed' : 'best_effort' }));
    return { kind: 'admit', isPromised };
  }

  /** How many choices of a request have a promise. Equal choices fare alike, so a bisection finds it. */
  #promisedOf(choices: readonly Sequence[]): number {
    let low = 0;
    let high = choices.length;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      const before = this.#taken.length;
      for (const each of choices.slice(0, middle - 1)) this.#take(each, true);
      if (this.#isPromised(choices.slice(middle - 1, middle))) low = middle;
      else high = middle - 1;
      this.#taken.length = before;
    }
    return low;
  }

  #isPromised(choices: readonly Sequence[]): boolean {
    const first = at(choices, 0);
    if (!first.hasBudget) return false;
    if (isOfNet(first)) return true;
    const { isInTime, hasMemory } = this.#attempt(choices, {});
    return isInTime && hasMemory;
  }

  /** @param change of the terms of the choices */
  #attempt(choices: readonly Sequence[], change: Partial<Terms>): Trial {
    const asked = choices.map((each) => proposed(each, { ...change, serviceClass: 'guaranteed' }));
    return tried(this.stateWith(asked), new Set(choices), this.#factorOf(at(choices, 0)));
  }

  /** Factor on the times of a tenant's promises. */
  #factorOf({ tenant }: Sequence): number {
    return 1 + this.inputs.margins.at(tenant, this.engine.now);
  }

  #reject(choices: readonly Sequence[]): Decision[] {
    const { refusals } = this.inputs;
    const least = refusals.least(choices, this.engine.now, () => this.#leastOf(choices));
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
    return leastBudget({ waitedMs, retryMs: waitedMs + nextStepMs(state) }, policy, (totalMs) => {
      const budget = { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' } as const;
      return searchTime.take(tenant, requests) ? this.#attempt(choices, { budget }) : null;
    });
  }

  #sentencesOf(taken: readonly Proposal[]): FirstSentences {
    const state = this.#stateOf(taken);
    return firstSentences(state, chooseExits(state, (this.#deepest ??= this.#deepestOf(state))));
  }
}

/** Whether it is the answer of a net, whose promise was made as it was armed. */
const isOfNet = ({ isNet, isDryRun }: Sequence): boolean => isNet && !isDryRun;

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
  const probability = sequence.lands ? self.landsWithin(exit, steps) : self.probabilityWithin(exit, steps);
  return {
    kind: 'admit',
    exit: at(state.model.shape.exits, exit).layer,
    reason: reasonOf(state, self, exit),
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
  };
}

/** Why a request has an exit: the first cause that alone explains it. */
function reasonOf(state: Snapshot, self: PlannedRequest, exit: ExitIndex): DepthReason {
  if (exit === self.maxExit) return 'deepest';
  const alone = new Snapshot({ ...state.occupancy, live: [], waiting: [self.sequence] }, state);
  const own = chooseExits(alone, deepestOf(state.model.shape)).get(at(alone.requests, 0)) ?? exit;
  return own > exit ? 'load' : 'budget';
}
