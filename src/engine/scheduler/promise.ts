/**
 * Promises: whether the budgets that the scheduler guarantees hold, by an outlook over promised requests alone.
 *
 * A promise covers the prompt at the shallowest exit, and the tokens to the end of a sentence. An answer that can't
 * land is covered to its own end. Slots and the KV cache count as well. Requests without a promise run in their share
 * of the time and of the slots.
 *
 * A net that sleeps is a promise that may begin at any instant. It wakes at its latest start.
 */
import { at } from '../../util/at.js';
import { type ExitOf, type Fate, fateOf, leastOrPresent, outlook } from './outlook.js';
import type { PlannedRequest } from './planned-request.js';
import { byDue, inOrder, protectedRows, type Snapshot } from './snapshot.js';
import type { ArmedEvent } from '../../protocol/index.js';
import { cutAt } from '../../protocol/outcome.js';
import { Latest } from '../../util/latest.js';
import type { Policy } from './policy.js';

/** How the promises among some requests fare. */
export type Promises = ReadonlyMap<PlannedRequest, Fate & { readonly isKept: boolean }>;

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

export function promises(state: Snapshot, requests: readonly PlannedRequest[], terms: PromiseTerms): Promises {
  const { careful, exitOf = leastOrPresent, isFull = false } = terms;
  const { slots = state.engine.slots, kvPositions = state.engine.kvPositions } = terms;
  const promised = requests.filter(({ isPromised }) => isPromised);
  if (promised.length === 0) return new Map();
  const hasOthers = !isFull && promised.length < requests.length;
  const { fates, stepMs } = outlook(state, isFull ? inOrder(requests) : promised.toSorted(byDue), {
    slots: slots - (hasOthers ? protectedRows(requests, state.policy, slots) : 0),
    exitOf,
    factor: careful / (1 - (hasOthers ? state.policy.noBudgetShare : 0)),
    isCareful: true,
  });
  // No more than the slots hold memory at once.
  const held = promised.map((each) => positionsOf(state, each)).sort((a, b) => b - a);
  const hasMemory = held.slice(0, slots).reduce((sum, each) => sum + each, 0) <= kvPositions;
  const kept = promised.map((each) => {
    const fate = fateOf(fates, each);
    return [each, { ...fate, isKept: hasMemory && isInTime(state.now, each, fate, stepMs) }] as const;
  });
  return new Map(kept);
}

function isInTime(now: number, each: PlannedRequest, { exit, firstAt, readyAt }: Fate, stepMs: number): boolean {
  const { firstTokenAt, generated } = each.sequence;
  const first = firstTokenAt ?? now + firstAt;
  const steps = each.guaranteedSteps(exit);
  const tokens = generated + steps - 1;
  const tpotMs = tokens < 1 ? 0 : (now - first + Math.max(readyAt, steps * stepMs)) / tokens;
  return now + readyAt - each.promisedBy <= ROUNDING_MS && first <= each.firstDue && tpotMs <= each.tpotMs;
}

/** Positions of a promise at its end. An answer that ends at its deadline has no more tokens than fit. */
function positionsOf({ costs, now }: Snapshot, each: PlannedRequest): number {
  const { isNet, generated, maxTokens, promptLength } = each.sequence;
  const exit = leastOrPresent(each);
  // A net ends behind its sentence where others wait for its slot.
  if (isNet) return promptLength + each.guaranteedSteps(exit);
  const { fixedMs, rowMs } = at(costs, exit);
  const fitting = cutAt(each.sequence) < Infinity ? Math.ceil((each.end - now) / (fixedMs + rowMs)) : Infinity;
  return promptLength + Math.min(maxTokens, generated + fitting);
}

/** Whether a promise that was kept is kept no more. */
export function breaks(after: Promises, before: Promises): boolean {
  return [...after].some(([each, { isKept }]) => !isKept && before.get(each)?.isKept === true);
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
  for (const each of nets.toSorted(byDue).reverse()) {
    const { readyAt = 0, firstAt = 0 } = found.get(each) ?? {};
    // A net wakes behind the step that runs.
    latestStart = Math.min(latestStart, Math.min(each.promisedBy - readyAt, each.firstDue - firstAt) - stepMs);
    starts.set(each, { latestStart });
  }
  return starts;
}

/** Milliseconds of the step that begins, with the prompts among its requests. */
export function nextStepMs({ batchStepMs, policy }: Snapshot, requests: readonly PlannedRequest[]): number {
  const prompts = requests.filter(({ isPrefilling }) => isPrefilling);
  const prefillMs = prompts.reduce((sum, each) => sum + each.prefillMs(each.currentExit), 0);
  return batchStepMs + Math.min(policy.maxStallMs, prefillMs);
}

/** Most tenants with a margin; the one with the oldest outcome is forgotten. */
const MOST_TENANTS = 1024;

/**
 * The safety margins of promises, one a tenant, by online quantile tracking. A miss adds a step. A kept promise takes
 * so much off that the margin settles where the target share is kept. A margin that rejects all requests has no outcome
 * to fall by, so its excess halves in each time without one.
 */
export class SafetyMargins {
  /** As of the last outcome, with its instant. */
  readonly #own = new Latest<{ readonly margin: number; readonly at: number }>(MOST_TENANTS);

  constructor(private readonly policy: Policy) {}

  /** Share by which a tenant's budget must exceed the planned time, at an instant. */
  at(tenant: string, now: number): number {
    const { initialMargin, marginHalfLifeMs } = this.policy;
    const { margin, at } = this.#own.get(tenant) ?? { margin: initialMargin, at: now };
    const idleMs = Math.max(0, now - at - marginHalfLifeMs);
    return margin <= initialMargin
      ? margin
      : initialMargin + (margin - initialMargin) * 2 ** (-idleMs / marginHalfLifeMs);
  }

  /** Learns at an instant that a promise was kept or missed. */
  observe(tenant: string, isKept: boolean, now: number): void {
    const { keptShare, marginStep } = this.policy;
    const next = this.at(tenant, now) + (isKept ? (-marginStep * (1 - keptShare)) / keptShare : marginStep);
    this.#own.set(tenant, { margin: Math.min(1, Math.max(0, next)), at: now });
  }
}
