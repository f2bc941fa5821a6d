/**
 * Promises: whether the budgets that the scheduler guarantees hold, by an outlook over promised requests alone.
 *
 * A promise covers the prompt at the shallowest exit, and the tokens to the end of a sentence. An answer that can't
 * land is covered to its own end. Slots and the KV cache count as well. Requests without a promise run in their share
 * of the time and of the slots.
 */
import { at } from './cost/model.js';
import { type ExitOf, type Fate, leastOrPresent, outlook } from './outlook.js';
import type { PlannedRequest } from './planned-request.js';
import { inOrder, protectedRows, type Snapshot } from './snapshot.js';

/** How a promise fares. */
export interface Held {
  /** Milliseconds from the present until it has what it covers. */
  readonly readyMs: number;
  readonly isInTime: boolean;
  /** The KV cache holds its positions beside those of older promises. */
  readonly hasMemory: boolean;
}

export type Promises = ReadonlyMap<PlannedRequest, Held>;

export interface PromiseTerms {
  /** On all times, 1 or more. */
  readonly careful: number;
  /** Absent: the shallowest exits of requests that begin. */
  readonly exitOf?: ExitOf;
  /** Every other request runs at full pace beside them; else in its share of time and slots. */
  readonly isFull?: boolean;
  /** Absent: those of the engine. */
  readonly slots?: number;
  readonly kvPositions?: number;
}

const ROUNDING_MS = 1e-6;

/** How the promises among some requests fare. */
export function promises(state: Snapshot, requests: readonly PlannedRequest[], terms: PromiseTerms): Promises {
  const { careful, exitOf = leastOrPresent, isFull = false } = terms;
  const { slots = state.engine.slots, kvPositions = state.engine.kvPositions } = terms;
  const { policy, now } = state;
  const found = new Map<PlannedRequest, Held>();
  const promised = requests.filter(({ isPromised }) => isPromised);
  if (promised.length === 0) return found;
  const hasOthers = !isFull && promised.length < requests.length;
  const { fates, stepMs } = outlook(state, isFull ? inOrder(requests).all : byDeadline(promised), {
    slots: slots - (hasOthers ? protectedRows(requests, policy, slots) : 0),
    exitOf,
    factor: careful / (1 - (hasOthers ? Math.min(policy.mostOthersShare, policy.noBudgetShare) : 0)),
    isCareful: true,
  });
  let positions = 0;
  for (const each of promised) {
    const fate = fates.get(each);
    if (fate === undefined) continue;
    positions += positionsOf(state, each, fate);
    const firstAt = each.sequence.firstTokenAt ?? now + fate.firstAt;
    const isFirstInTime = firstAt <= each.firstDue && tpotOf(each, fate, now - firstAt, stepMs) <= each.tpotMs;
    const isInTime = now + fate.readyAt - each.end <= ROUNDING_MS && isFirstInTime;
    found.set(each, { readyMs: fate.readyAt, isInTime, hasMemory: positions <= kvPositions });
  }
  return found;
}

function byDeadline(requests: readonly PlannedRequest[]): PlannedRequest[] {
  return [...requests].sort((a, b) => (a.dueAt === b.dueAt ? 0 : a.dueAt - b.dueAt));
}

/** Mean time of the tokens that a promise covers. @param sinceFirstMs from its first token to the present */
function tpotOf(each: PlannedRequest, { exit, readyAt }: Fate, sinceFirstMs: number, stepMs: number): number {
  const steps = each.guaranteedSteps(exit);
  const tokens = each.sequence.generated + steps - 1;
  return tokens < 1 ? 0 : (sinceFirstMs + Math.max(readyAt, steps * stepMs)) / tokens;
}

/** Positions of a promise at its end. An answer that lands has no more tokens than fit ahead of its deadline. */
function positionsOf({ costs, now }: Snapshot, { sequence, end }: PlannedRequest, { exit }: Fate): number {
  const { fixedMs, rowMs } = at(costs, exit);
  const fitting = sequence.lands ? Math.ceil((end - now) / Math.max(1e-3, fixedMs + rowMs)) : Infinity;
  return sequence.promptLength + Math.min(sequence.maxTokens, sequence.generated + fitting);
}

/** Whether a promise is broken. */
export const isBroken = ({ isInTime, hasMemory }: Held): boolean => !isInTime || !hasMemory;

/** Whether a promise that was kept is kept no more. */
export function breaks(after: Promises, before: Promises): boolean {
  return [...after].some(([each, { isInTime, hasMemory }]) => {
    const was = before.get(each);
    return was !== undefined && ((was.isInTime && !isInTime) || (was.hasMemory && !hasMemory));
  });
}
