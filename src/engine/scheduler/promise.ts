/**
 * Promises: whether the budgets that the scheduler guarantees hold, by an outlook over promised requests alone.
 *
 * A promise covers the prompt at the shallowest exit, and the tokens to the end of a sentence. An answer that can't
 * land is covered to its own end. Slots and the KV cache count as well. Requests without a promise run in their share
 * of the time and of the slots.
 *
 * A net that sleeps is a promise that may begin at any instant. It wakes at its latest start.
 *
 * Safety margin of promises: online quantile tracking. A miss adds a step to the margin, and a kept promise takes so
 * much off that it settles where the target share is kept, whatever makes answers late.
 *
 * Each tenant has its own margin. The others' raise it by one step at most: a slow machine makes all of them late.
 * A margin that rejects all requests has no outcome to fall by, so its excess decays without outcomes.
 */
import { at } from '../../util/at.js';
import { type ExitOf, type Fate, leastOrPresent, outlook } from './outlook.js';
import type { PlannedRequest } from './planned-request.js';
import { inOrder, protectedRows, type Snapshot } from './snapshot.js';
import type { ArmedEvent } from '../../protocol/index.js';
import { cutAt } from '../../protocol/outcome.js';
import { Latest } from '../../util/latest.js';
import type { Policy } from './policy.js';

/** How a promise fares. */
export interface Held {
  /** Milliseconds from the present until it has what it covers. */
  readonly readyMs: number;
  readonly isInTime: boolean;
  /** The KV cache holds its positions beside those of older promises. */
  readonly hasMemory: boolean;
}

/** With the milliseconds until their first tokens. */
export type Promises = ReadonlyMap<PlannedRequest, Held & { readonly firstMs: number }>;

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
  const found = new Map<PlannedRequest, Held & { readonly firstMs: number }>();
  const promised = requests.filter(({ isPromised }) => isPromised);
  if (promised.length === 0) return found;
  const hasOthers = !isFull && promised.length < requests.length;
  const { fates, stepMs } = outlook(state, isFull ? inOrder(requests).all : byDeadline(promised), {
    slots: slots - (hasOthers ? protectedRows(requests, policy, slots) : 0),
    exitOf,
    factor: careful / (1 - (hasOthers ? policy.noBudgetShare : 0)),
    isCareful: true,
  });
  const memory = new Memory(state, slots);
  for (const each of promised) {
    const fate = fates.get(each);
    if (fate === undefined) continue;
    const positions = memory.with(each, fate);
    const firstAt = each.sequence.firstTokenAt ?? now + fate.firstAt;
    const isFirstInTime = firstAt <= each.firstDue && tpotOf(each, fate, now - firstAt, stepMs) <= each.tpotMs;
    const isInTime = now + fate.readyAt - each.promisedBy <= ROUNDING_MS && isFirstInTime;
    found.set(each, { readyMs: fate.readyAt, firstMs: fate.firstAt, isInTime, hasMemory: positions <= kvPositions });
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

/** Positions of promises, one after the other. */
class Memory {
  #positions = 0;
  /** Those of nets in their order: a net ends behind its sentence where others wait for its slot. */
  readonly #nets: number[] = [];

  constructor(
    private readonly state: Snapshot,
    private readonly slots: number,
  ) {}

  /** Positions with one more promise. */
  with(each: PlannedRequest, fate: Fate): number {
    const { isNet, promptLength } = each.sequence;
    if (!isNet) return (this.#positions += positionsOf(this.state, each, fate));
    const own = promptLength + each.guaranteedSteps(fate.exit);
    this.#nets.push(own);
    return (this.#positions += own - (this.#nets.at(-1 - this.slots) ?? 0));
  }
}

/** Positions of a promise at its end. An answer that ends at its deadline has no more tokens than fit. */
function positionsOf({ costs, now }: Snapshot, { sequence, end }: PlannedRequest, { exit }: Fate): number {
  const { fixedMs, rowMs } = at(costs, exit);
  const fitting = cutAt(sequence) < Infinity ? Math.ceil((end - now) / Math.max(1e-3, fixedMs + rowMs)) : Infinity;
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

/** When a net wakes at the latest. */
export type NetStart = Omit<ArmedEvent, 'id'>;

/**
 * The latest starts of nets. All may have to start at one instant, since failures of upstreams come together. So a net
 * starts at the last instant at which it and the nets due behind it are in time, if they start with it.
 */
export function latestStarts(
  state: Snapshot,
  requests: readonly PlannedRequest[],
  nets: readonly PlannedRequest[],
  careful: number,
): ReadonlyMap<PlannedRequest, NetStart> {
  const found = promises(state, [...requests, ...nets], { careful });
  const starts = new Map<PlannedRequest, NetStart>();
  const stepMs = nextStepMs(state, requests);
  let latestStart = Infinity;
  for (const each of byDeadline(nets).reverse()) {
    const { readyMs = 0, firstMs = 0 } = found.get(each) ?? {};
    // A net wakes behind the step that runs.
    latestStart = Math.min(latestStart, Math.min(each.promisedBy - readyMs, each.firstDue - firstMs) - stepMs);
    starts.set(each, { latestStart });
  }
  return starts;
}

/** Milliseconds of the step that begins, with the prompts among its requests. */
export function nextStepMs({ batchStepMs, policy }: Snapshot, requests: readonly PlannedRequest[]): number {
  let prefillMs = 0;
  for (const each of requests) if (each.isPrefilling) prefillMs += each.prefillMs(each.currentExit);
  return batchStepMs + Math.min(policy.maxStallMs, prefillMs);
}

interface Margin {
  /** As of the last outcome. */
  readonly margin: number;
  /** Instant of the last outcome, ms. */
  readonly at: number;
}

/** Most tenants with a margin; the one with the oldest outcome is forgotten. */
const MOST_TENANTS = 1024;

export class SafetyMargins {
  readonly #own = new Latest<Margin>(MOST_TENANTS);

  constructor(private readonly policy: Policy) {}

  /** Share by which a tenant's budget must exceed the planned time, at an instant. */
  at(tenant: string, now: number): number {
    const { initialMargin, marginStep } = this.policy;
    const own = this.#own.get(tenant);
    let others = 0;
    for (const [name, margin] of this.#own) if (name !== tenant) others = Math.max(others, this.#decayed(margin, now));
    const bounded = Math.min(others, initialMargin + marginStep);
    return own === undefined ? Math.max(initialMargin, bounded) : Math.max(this.#decayed(own, now), bounded);
  }

  /** Learns at an instant that a promise was kept or missed. */
  observe(tenant: string, isKept: boolean, now: number): void {
    const { initialMargin, keptShare, marginStep } = this.policy;
    const own = this.#own.get(tenant);
    const before = own === undefined ? initialMargin : this.#decayed(own, now);
    const next = before + (isKept ? (-marginStep * (1 - keptShare)) / keptShare : marginStep);
    this.#own.set(tenant, { margin: Math.min(1, Math.max(0, next)), at: now });
  }

  #decayed({ margin, at }: Margin, now: number): number {
    const { initialMargin, marginHalfLifeMs } = this.policy;
    const idleMs = now - at - marginHalfLifeMs;
    if (margin <= initialMargin || idleMs <= 0) return margin;
    return initialMargin + (margin - initialMargin) * 2 ** (-idleMs / marginHalfLifeMs);
  }
}
