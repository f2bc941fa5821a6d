/**
 * What a router learns from requests as they come and go, in one value: the same for engine and simulator.
 *
 * Knows: the learners. Must not know: who calls, clocks.
 */
import { type Demand, noDemand, observeArrival } from './demand.js';
import { isWithin } from './deadlines.js';
import { type Estimate, type Outlook, estimateMs, firstTotal, noEstimate, observeEstimate } from './estimate.js';
import { type LengthModel, noLengths, observeLength, plannedLength } from './lengths.js';
import { type Promises, noPromises, noneTold, observePromise } from './promises.js';
import type { Admission, Policy, WaitingRequest } from './types.js';

export interface Learned {
  readonly lengths: LengthModel;
  readonly demand: Demand;
  /** Of everything that was called feasible: what plans and refusals leave to spare. */
  readonly promises: Promises;
  /** Of totals that are served in any case, and were called feasible by their prediction. */
  readonly told: Promises;
  /** Of the whole answer, and of its first token. */
  readonly total: Estimate;
  readonly ttft: Estimate;
}

export const nothingLearned: Learned = {
  lengths: noLengths,
  demand: noDemand,
  promises: noPromises,
  told: noneTold,
  total: firstTotal,
  ttft: noEstimate,
};

/** Quantile of the learnt lengths that stands for what arrives: the middle one. */
const LIKELY = 0.5;

/** Learns of a request that arrives. Its own admission counts it; keep the value only where it was admitted. */
export function observeRequest(learned: Learned, request: WaitingRequest, now: number): Learned {
  const { maxTokens, budget } = request;
  const positions = request.promptLength - ((request.expected ?? request.frontier)?.[0] ?? 0);
  const tokens = plannedLength(learned.lengths, maxTokens, 0, LIKELY);
  return { ...learned, demand: observeArrival(learned.demand, now, positions, tokens, budget) };
}

/** How an answer ended, as the engine sees it: instants in ms. */
export interface AnswerEnd {
  readonly firstTokenAt: number | null;
  readonly endedAt: number;
  readonly tokens: number;
  /** False where it was cut at its deadline. */
  readonly whole: boolean;
}

/** Learns from an answer that ended by itself or at its deadline, not from one that was cancelled. */
export function observeEnd(
  learned: Learned,
  request: WaitingRequest,
  admission: Admission,
  { firstTokenAt, endedAt, tokens, whole }: AnswerEnd,
  policy: Policy,
): Learned {
  if (admission.kind === 'refuse') return learned;
  const { arrivedAt, budget, maxTokens } = request;
  const late = policy.requestOverheadMs;
  const finish = { arrivedAt, firstTokenAt: (firstTokenAt ?? endedAt) + late, endedAt: endedAt + late, tokens };
  let { promises, told } = learned;
  if (budget !== null && admission.feasible) {
    const kept = whole && isWithin(budget, finish);
    promises = observePromise(promises, kept, endedAt);
    // A first token or a pace that was missed says nothing of how far to trust predictions of totals.
    const keptTotal = whole && isWithin({ ...budget, ttftMs: null, tpotMs: null }, finish);
    if (budget.onMiss !== 'reject' && budget.totalMs !== null) told = observePromise(told, keptTotal, endedAt);
  }
  const { total, ttft } = admission.outlook;
  if (!whole) {
    // It would have taken longer still: that says something only where it took longer than predicted already.
    const atLeast = (estimate: Estimate, outlook: Outlook): Estimate => {
      const ms = finish.endedAt - arrivedAt;
      return ms > estimateMs(estimate, outlook) ? observeEstimate(estimate, outlook, ms) : estimate;
    };
    return {
      ...learned,
      promises,
      told,
      total: atLeast(learned.total, total),
      ttft:
        firstTokenAt === null
          ? atLeast(learned.ttft, ttft)
          : observeEstimate(learned.ttft, ttft, finish.firstTokenAt - arrivedAt),
    };
  }
  return {
    ...learned,
    promises,
    told,
    lengths: observeLength(learned.lengths, maxTokens, tokens),
    total: observeEstimate(learned.total, total, finish.endedAt - arrivedAt),
    ttft: observeEstimate(learned.ttft, ttft, finish.firstTokenAt - arrivedAt),
  };
}
