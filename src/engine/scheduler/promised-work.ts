/** The engine time of promises, as callers and armed nets add it up. */
import { at } from './cost/model.js';
import { stepTable } from './cost/step-costs.js';
import type { ExitIndex, NetWork, PromisedWork, PromisedPart } from '../../protocol/index.js';
import { startsByPart } from '../../protocol/latest-starts.js';
import { leastOrPresent } from './outlook.js';
import type { PlannedRequest } from './planned-request.js';
import type { Snapshot } from './snapshot.js';

type Requests = readonly PlannedRequest[];

/**
 * The work of a request's promise at its shallowest exit, for a dry run.
 * @param requests the present ones
 * @param careful factor on all times, 1 or more
 */
export function promisedWork(state: Snapshot, asked: PlannedRequest, requests: Requests, careful: number): NetWork {
  const direct = partsOf(
    state,
    requests.filter(({ sequence }) => !sequence.isNet),
    careful,
  );
  // JSON has no Infinity: a promise without a last deadline holds up no net.
  return { ...workLeft(state, asked, asked.minExit, careful), direct: direct.filter(({ dueAt }) => dueAt < Infinity) };
}

/** Tokens that a promise has left, with their reserve. */
const tokensOf = ({ policy }: Snapshot, each: PlannedRequest, exit: ExitIndex, careful: number): number =>
  careful * (1 + policy.margin) * each.guaranteedSteps(exit);

/** The work that a promise has left. */
function workLeft(state: Snapshot, each: PlannedRequest, exit: ExitIndex, careful: number): PromisedWork {
  const { model, engine, oneRowMs } = state;
  const { slots } = engine;
  const rows = new Int32Array(model.shape.exits.length).fill(slots, exit, exit + 1);
  const stepMs = stepTable(model, each.target)(rows);
  const tokens = tokensOf(state, each, exit, careful);
  const rowMs = slots > 1 ? Math.max(0, stepMs - at(oneRowMs, exit)) / (slots - 1) : 0;
  const prefillMs = careful * each.prefillMs(exit);
  return { prefillMs, fullMs: prefillMs + (tokens * stepMs) / slots, besideMs: tokens * rowMs };
}

/** The parts of promises in the engine's time from now on. */
function partsOf(state: Snapshot, requests: Requests, careful: number): PromisedPart[] {
  const promised = requests.filter(({ isPromised }) => isPromised);
  return promised.map((each) => {
    const exit = leastOrPresent(each);
    const work = workLeft(state, each, exit, careful);
    const sentenceMs = work.prefillMs + tokensOf(state, each, exit, careful) * at(state.oneRowMs, exit);
    return { ...work, dueAt: each.end, sentenceMs };
  });
}

/**
 * Whether new promises leave the armed nets their time. All nets may start at any instant. So all of them together with
 * the promises are in time from now on, and no latest start that is past moves further back.
 * @param requests the present ones
 * @param asked the new requests; the answer of a net has its own part
 */
export function leavesNets(state: Snapshot, requests: Requests, asked: Requests, careful: number): boolean {
  const { nets = [], now, slots } = state.engine;
  const armed = nets.filter(({ dueAt }) => dueAt > now);
  if (armed.length === 0 || asked.some(({ sequence }) => sequence.isNet)) return true;
  const old = [...armed, ...partsOf(state, requests, careful)];
  const before = startsByPart(old, slots);
  return [...startsByPart([...old, ...partsOf(state, asked, careful)], slots)].every(
    ([part, start]) => start >= now || start >= (before.get(part) ?? Infinity) - ROUNDING_MS,
  );
}

const ROUNDING_MS = 1e-6;
