/**
 * The trial of a promise: whether it would hold for new requests, beside the older promises, armed nets and the shares
 * of keys.
 *
 * Pure functions. Must not know: budgets that are searched, rejections.
 */
import { leavesNets } from './promised-work.js';
import { latePromises, promiseTimes } from './promise.js';
import type { Sequence } from './sequence.js';
import { Snapshot, sequenceOf } from './snapshot.js';

/** How a promise would fare. */
export interface Trial {
  /** It and all older promises hold, as far as time goes. */
  readonly isInTime: boolean;
  /** The KV cache holds what the budget has time for. */
  readonly hasMemory: boolean;
  /** Milliseconds from the present until its tokens are there; Infinity: never. */
  readonly readyMs: number;
}

/**
 * @param state with the new requests, as promised
 * @param asked the new requests
 * @param careful factor on all times, 1 or more
 */
export function tried(state: Snapshot, asked: ReadonlySet<Sequence>, careful: number): Trial {
  // A budget that is over has no promise to be late for.
  if (state.requests.some((each) => asked.has(each.sequence) && !each.isPromised))
    return { isInTime: false, hasMemory: true, readyMs: Infinity };
  const whole = triedOn(state, asked, careful);
  if (!whole.isInTime) return whole;
  if (!leavesNets(state, asked, careful)) return { ...whole, isInTime: false };
  const share = shareOf(state, asked);
  if (share === null) return whole;
  const own = triedOn(share.state, asked, careful * share.keys);
  return {
    isInTime: own.isInTime,
    hasMemory: whole.hasMemory && own.hasMemory,
    readyMs: Math.max(whole.readyMs, own.readyMs),
  };
}

/** The trial on the whole machine, or on a share of it. */
function triedOn(state: Snapshot, asked: ReadonlySet<Sequence>, careful: number): Trial {
  let readyMs = 0;
  let isInTime = true;
  let hasMemory = true;
  const late = [];
  for (const [each, time] of promiseTimes(state, careful)) {
    const isLate = time.lateMs !== null;
    if (asked.has(each.sequence)) {
      readyMs = Math.max(readyMs, time.readyMs);
      hasMemory &&= time.hasMemory;
      isInTime &&= !isLate;
    } else if (isLate || !time.hasMemory) late.push(each);
  }
  if (late.length > 0 && isInTime) {
    // Forecast without the new requests, at the same step costs.
    const wasLate = latePromises(state, careful, new Map(), false, asked);
    isInTime = late.every((each) => wasLate.has(each));
  }
  return { isInTime, hasMemory, readyMs };
}

/**
 * The machine as a key's promises may count on it while other keys have requests without a promise: each key has an
 * equal share of time, slots and memory. One promise of a key is free, since no share may be too small for any.
 * @returns null for the whole machine
 */
function shareOf(state: Snapshot, asked: ReadonlySet<Sequence>): { state: Snapshot; keys: number } | null {
  const { occupancy, requests } = state;
  const tenant = [...asked][0]?.tenant;
  const isOwn = (each: Sequence): boolean => each.tenant === tenant;
  const isFirst = !requests.some((each) => each.isPromised && isOwn(each.sequence) && !asked.has(each.sequence));
  const rivals = requests.filter((each) => !each.isPromised && !isOwn(each.sequence));
  const keys = 1 + new Set(rivals.map(({ sequence }) => sequence.tenant)).size;
  if (keys === 1 || isFirst) return null;
  const own = {
    ...occupancy,
    slots: Math.max(1, Math.floor(occupancy.slots / keys)),
    kvPositions: occupancy.kvPositions / keys,
    live: occupancy.live.filter(isOwn),
    waiting: occupancy.waiting.filter((each) => isOwn(sequenceOf(each))),
  };
  return { state: new Snapshot(own, state, Infinity), keys };
}
