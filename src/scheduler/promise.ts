/**
 * Promises: whether the budgets that the scheduler guarantees hold, with one more of them.
 *
 * A promise covers the prompt at the shallowest exit, and the tokens to the end of a sentence. An answer that can't
 * land is covered to its own end. Slots and the KV cache count as well. Requests without a promise run in their share
 * of the time and of the slots.
 */
import { type ExitIndex, at } from '../cost/model.js';
import { type BatchEntry, forecastBatch } from './forecast.js';
import type { PlannedRequest } from './planned-request.js';
import type { Sequence } from './sequence.js';
import type { Snapshot } from './snapshot.js';

/** Promised requests that would be late, with the milliseconds behind their deadlines. */
export type Late = ReadonlyMap<PlannedRequest, number>;

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
  without: readonly Sequence[] = [],
): Late {
  const { now, occupancy, policy } = state;
  const requests = state.requests.filter(({ sequence }) => !without.includes(sequence));
  const promised = requests.filter(({ isPromised }) => isPromised);
  if (promised.length === 0) return new Map();
  const hasOthers = !areAllRunning && promised.length < requests.length;
  const factor = careful / (1 - (hasOthers ? Math.min(policy.mostOthersShare, policy.noBudgetShare) : 0));
  const costs = state.costs.map(({ rowMs, fixedMs }) => ({ rowMs: rowMs * factor, fixedMs: fixedMs * factor }));
  const exitOf = (each: PlannedRequest): ExitIndex =>
    chosen.get(each) ?? (each.isBeginning ? each.minExit : each.currentExit);
  const playing = areAllRunning ? requests.filter((each) => each.isLive || each.isPromised) : promised;
  const entries = playing.map((each): BatchEntry => {
    const { dueAt, leavesAt, exit, prefillMs, chunks, tokens, guaranteedTokens, hasSlot } = each.entry(exitOf(each));
    const most = each.isPromised ? Math.max(guaranteedTokens, tokens) : tokens;
    const promisedBy = each.isPromised ? each.deadlines.end - now : Infinity;
    return {
      dueAt,
      leavesAt,
      exit,
      prefillMs: prefillMs * factor,
      chunks,
      tokens: most,
      guaranteedTokens,
      hasSlot,
      promisedBy,
    };
  });
  const outcomes = forecastBatch(entries, occupancy.slots - (hasOthers ? state.protectedRows : 0), costs);
  const late = new Map<PlannedRequest, number>();
  for (const [i, each] of playing.entries()) {
    if (!each.isPromised) continue;
    const { guaranteedAt, firstTokenAt } = at(outcomes, i);
    const { prefillMs, guaranteedTokens } = at(entries, i);
    const { deadlines, sequence } = each;
    const first = sequence.firstTokenAt ?? now + (prefillMs > 0 ? firstTokenAt : 0);
    const tokens = sequence.generated + guaranteedTokens - 1;
    const tpotMs = tokens < 1 ? 0 : (now + guaranteedAt - first) / tokens;
    const lateMs = now + guaranteedAt - deadlines.end;
    const isLate = lateMs > ROUNDING_MS || first > deadlines.firstToken || tpotMs > deadlines.tpotMs;
    if (isLate) late.set(each, Math.max(0, lateMs));
  }
  for (const each of withoutMemory(state, promised, exitOf)) late.set(each, Infinity);
  return late;
}

const ROUNDING_MS = 1e-6;

/** The latest promised requests whose positions the KV cache does not hold beside those of the others. */
function withoutMemory(
  { occupancy, costs, now }: Snapshot,
  promised: readonly PlannedRequest[],
  exitOf: (each: PlannedRequest) => ExitIndex,
): PlannedRequest[] {
  let positions = 0;
  return promised.filter((each) => {
    const { sequence, deadlines } = each;
    const { rowMs, fixedMs } = at(costs, exitOf(each));
    // An answer that lands has no more tokens than fit before its deadline.
    const fitting = sequence.lands ? Math.ceil((deadlines.end - now) / Math.max(1e-3, rowMs + fixedMs)) : Infinity;
    const most = Math.min(sequence.maxTokens, sequence.generated + fitting);
    positions += sequence.promptLength + most;
    return positions > occupancy.kvPositions;
  });
}
