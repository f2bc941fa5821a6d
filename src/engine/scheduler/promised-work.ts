/** The engine time of promises, as callers and armed nets add it up. */
import { stepTable } from './cost/step-costs.js';
import type { ExitIndex, NetWork, PromisedWork, PromisedPart } from '../../protocol/index.js';
import { startsByPart } from '../../protocol/latest-starts.js';
import { PlannedRequest } from './planned-request.js';
import type { Sequence } from './sequence.js';
import type { Snapshot } from './snapshot.js';

/**
 * The work of a request's promise at its shallowest exit, for a dry run.
 * @param careful factor on all times, 1 or more
 */
export function promisedWork(request: Sequence, state: Snapshot, careful: number): NetWork {
  const self = new PlannedRequest(request, state);
  const direct = state.requests.filter(({ isPromised, sequence }) => isPromised && !sequence.isNet);
  const parts = direct.map((each) => partOf(each, state, careful));
  // JSON has no Infinity: a promise without a last deadline holds up no net.
  return { ...workLeft(self, self.minExit, state, careful), direct: parts.filter(({ dueAt }) => dueAt < Infinity) };
}

const exitOf = (each: PlannedRequest): ExitIndex => (each.isBeginning ? each.minExit : each.currentExit);

/** Tokens that a promise has left, with their reserve. */
const tokensOf = (self: PlannedRequest, exit: ExitIndex, { policy }: Snapshot, careful: number): number =>
  careful * (1 + policy.margin) * self.guaranteedSteps(exit);

/** The work that a promise has left. */
function workLeft(self: PlannedRequest, exit: ExitIndex, state: Snapshot, careful: number): PromisedWork {
  const { model, occupancy } = state;
  const { slots } = occupancy;
  const rows = new Int32Array(model.shape.exits.length).fill(slots, exit, exit + 1);
  const stepMs = stepTable(model, self.target)(rows);
  const tokens = tokensOf(self, exit, state, careful);
  const rowMs = slots > 1 ? Math.max(0, stepMs - self.stepMs(exit)) / (slots - 1) : 0;
  const prefillMs = careful * self.prefillMs(exit);
  return { prefillMs, fullMs: prefillMs + (tokens * stepMs) / slots, besideMs: tokens * rowMs };
}

/** The part of a promise in the engine's time from now on. */
function partOf(each: PlannedRequest, state: Snapshot, careful: number): PromisedPart {
  const exit = exitOf(each);
  const work = workLeft(each, exit, state, careful);
  const sentenceMs = work.prefillMs + tokensOf(each, exit, state, careful) * each.stepMs(exit);
  return { ...work, dueAt: each.deadlines.end, sentenceMs };
}

/**
 * Whether new promises leave the armed nets their time. All nets may start at any instant. So all of them together with
 * the promises are in time from now on, and no latest start that is past moves further back.
 * @param asked the new requests; the answer of a net has its own part
 */
export function leavesNets(state: Snapshot, asked: ReadonlySet<Sequence>, careful: number): boolean {
  const { now, occupancy } = state;
  const { nets = [], slots } = occupancy;
  const armed = nets.filter(({ dueAt }) => dueAt > now);
  if (armed.length === 0 || [...asked].some(({ isNet }) => isNet)) return true;
  const promised = state.requests.filter(({ isPromised }) => isPromised);
  const partsOf = (isNew: boolean): PromisedPart[] =>
    promised.filter(({ sequence }) => asked.has(sequence) === isNew).map((each) => partOf(each, state, careful));
  const old = [...armed, ...partsOf(false)];
  const before = startsByPart(old, slots);
  return [...startsByPart([...old, ...partsOf(true)], slots)].every(
    ([part, start]) => start >= now || start >= (before.get(part) ?? Infinity) - ROUNDING_MS,
  );
}

const ROUNDING_MS = 1e-6;
