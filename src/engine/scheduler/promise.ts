/**
 * Promises: whether the budgets that the scheduler guarantees hold, with one more of them.
 *
 * A promise covers the prompt at the shallowest exit, and the tokens to the end of a sentence. An answer that can't
 * land is covered to its own end. Slots and the KV cache count as well. Requests without a promise run in their share
 * of the time and of the slots.
 */
import { type ExitIndex, at } from './cost/model.js';
import { type BatchEntry, forecastBatch } from './forecast.js';
import type { PlannedRequest } from './planned-request.js';
import type { Sequence } from './sequence.js';
import type { Snapshot } from './snapshot.js';

/** Promised requests that would be late, with the milliseconds behind their deadlines. */
export type Late = ReadonlyMap<PlannedRequest, number>;

/** How a promised request fares in a forecast, in milliseconds. */
export interface PromiseTime {
  /** From the present until it has what its promise covers; Infinity: never. */
  readonly readyMs: number;
  /** Behind its deadline, 0 for a late first token or TPOT; null: in time. */
  readonly lateMs: number | null;
  /** The KV cache holds its positions beside those of older promises. */
  readonly hasMemory: boolean;
}

/**
 * Compares two forecasts: whether a request gets late, or later, that can still be in time. Sequences match requests.
 */
export function getsLater(late: Late, before: Late): boolean {
  const was = new Map([...before].map(([{ sequence }, ms]) => [sequence, ms]));
  return [...late].some(([each, ms]) => each.isReachable && ms > (was.get(each.sequence) ?? -1) + ROUNDING_MS);
}

/**
 * The promised requests that would be late if all times were longer by a factor. Each goes on to its mean length, or to
 * its deadline where it lands, and is late if what its promise covers is.
 * @param careful factor on all times, 1 or more
 * @param chosen exits of requests that begin; absent: the shallowest
 * @param areAllRunning rows without a promise run at full pace; else in their share
 * @param without sequences that do not come
 */
export function latePromises(
  state: Snapshot,
  careful: number,
  chosen: ReadonlyMap<PlannedRequest, ExitIndex> = new Map(),
  areAllRunning = false,
  without: ReadonlySet<Sequence> = NONE,
): Late {
  const late = new Map<PlannedRequest, number>();
  for (const [each, { lateMs, hasMemory }] of promiseTimes(state, careful, chosen, areAllRunning, without)) {
    if (!hasMemory) late.set(each, Infinity);
    else if (lateMs !== null) late.set(each, lateMs);
  }
  return late;
}

const NONE: ReadonlySet<Sequence> = new Set();

/** The same for all promised requests, in time or late. */
export function promiseTimes(
  state: Snapshot,
  careful: number,
  chosen: ReadonlyMap<PlannedRequest, ExitIndex> = new Map(),
  areAllRunning = false,
  without: ReadonlySet<Sequence> = NONE,
): ReadonlyMap<PlannedRequest, PromiseTime> {
  const { now, occupancy, policy } = state;
  const requests = state.requests.filter(({ sequence }) => !without.has(sequence));
  const promised = requests.filter(({ isPromised }) => isPromised);
  if (promised.length === 0) return new Map();
  const hasOthers = !areAllRunning && promised.length < requests.length;
  const factor = careful / (1 - (hasOthers ? Math.min(policy.mostOthersShare, policy.noBudgetShare) : 0));
  const costs = state.costs.map(({ rowMs, fixedMs }) => ({ rowMs: rowMs * factor, fixedMs: fixedMs * factor }));
  const exitOf = (each: PlannedRequest): ExitIndex =>
    chosen.get(each) ?? (each.isBeginning ? each.minExit : each.currentExit);
  const playing = areAllRunning ? requests.filter((each) => each.isLive || each.isPromised) : promised;
  const entries = playing.map((each) => entryOf(each, exitOf(each), factor, now));
  const outcomes = forecastBatch(entries, occupancy.slots - (hasOthers ? state.protectedRows : 0), costs);
  const lacking = withoutMemory(state, promised, exitOf);
  const times = new Map<PlannedRequest, PromiseTime>();
  for (const [i, each] of playing.entries()) {
    if (!each.isPromised) continue;
    const { guaranteedAt, firstTokenAt } = at(outcomes, i);
    const { prefillMs, guaranteedTokens } = at(entries, i);
    const { deadlines, sequence } = each;
    const first = sequence.firstTokenAt ?? now + (prefillMs > 0 ? firstTokenAt : 0);
    const tokens = sequence.generated + guaranteedTokens - 1;
    const tpotMs = tokens < 1 ? 0 : (now + guaranteedAt - first) / tokens;
    const behindMs = now + guaranteedAt - deadlines.end;
    const isLate = behindMs > ROUNDING_MS || first > deadlines.firstToken || tpotMs > deadlines.tpotMs;
    const lateMs = isLate ? Math.max(0, behindMs) : null;
    times.set(each, { readyMs: guaranteedAt, lateMs, hasMemory: !lacking.has(each) });
  }
  return times;
}

const ROUNDING_MS = 1e-6;

/** A request in the forecast of promises. @param factor on its prefill */
function entryOf(each: PlannedRequest, exit: ExitIndex, factor: number, now: number): BatchEntry {
  const entry = each.entry(exit);
  return {
    ...entry,
    prefillMs: entry.prefillMs * factor,
    tokens: each.isPromised ? Math.max(entry.guaranteedTokens, entry.tokens) : entry.tokens,
    promisedBy: each.isPromised ? each.deadlines.end - now : Infinity,
  };
}

/** The latest promised requests whose positions the KV cache does not hold beside those of the others. */
function withoutMemory(
  { occupancy, costs, now }: Snapshot,
  promised: readonly PlannedRequest[],
  exitOf: (each: PlannedRequest) => ExitIndex,
): ReadonlySet<PlannedRequest> {
  let positions = 0;
  const lacking = promised.filter((each) => {
    const { sequence, deadlines } = each;
    const { rowMs, fixedMs } = at(costs, exitOf(each));
    // An answer that lands has no more tokens than fit before its deadline.
    const fitting = sequence.lands ? Math.ceil((deadlines.end - now) / Math.max(1e-3, rowMs + fixedMs)) : Infinity;
    const most = Math.min(sequence.maxTokens, sequence.generated + fitting);
    positions += sequence.promptLength + most;
    return positions > occupancy.kvPositions;
  });
  return new Set(lacking);
}
