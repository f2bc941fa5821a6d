/**
 * Summarizes a simulated run as `sortie bench` summarizes a measured one (bench/loadgen/summary.ts), with the exits' quality.
 */
import type { DepthShape } from '../../src/engine/scheduler/cost/model.js';
import type { Sent } from '../../bench/loadgen/run.js';
import * as summary from '../../bench/loadgen/summary.js';
import { type Ending, outcomeOf } from '../../src/util/outcome.js';
import { timesOf } from '../../src/util/within-budget.js';
import type { Outcome } from './simulated-engine.js';

export interface Report extends summary.Summary {
  readonly meanQuality: number;
}

/** How a simulated answer ended. */
const ENDS: Readonly<Record<Outcome['reason'], Ending['end']>> = {
  length: 'whole',
  landed: 'landed',
  deadline: 'cut',
  rejected: 'refused',
};

/** An outcome as its client sees it. A rejected request has its reason as the kind of its error. */
function sentOf({ request, admission, firstTokenAt, endedAt, path, tokens, reason }: Outcome): Sent<summary.Judged> {
  const { arrivedAt, budgetClass, budget, maxTokens } = request;
  const times = timesOf({ arrivedAt, firstTokenAt: firstTokenAt ?? endedAt, endedAt, tokens });
  const totalMs = endedAt - arrivedAt;
  const isRejected = reason === 'rejected';
  const outcome = outcomeOf({ end: ENDS[reason], isEmpty: firstTokenAt === null }, times, budget);
  const exits: Record<string, number> = {};
  for (const { exit, tokens: count } of path) exits[exit] = (exits[exit] ?? 0) + count;
  const admitted = admission.kind === 'admit' ? admission : null;
  return {
    job: { budgetClass, budget, maxTokens },
    atMs: arrivedAt,
    answer: {
      ...times,
      totalMs,
      tokens,
      exits,
      lagMs: 0,
      finishReason: isRejected ? null : reason === 'deadline' ? 'length' : 'stop',
      error: isRejected ? { kind: reason, message: '' } : null,
      outcome,
      isLanded: reason === 'landed',
      ...(admitted && { depthReason: admitted.reason }),
      serviceClass: admitted?.serviceClass ?? null,
      predictedMs: admitted?.predictedMs ?? null,
      predictedTtftMs: admitted?.predictedTtftMs ?? null,
      predictedP10Ms: admitted?.predictedP10Ms ?? null,
      predictedP90Ms: admitted?.predictedP90Ms ?? null,
      actualMs: totalMs,
      queueMs: null,
    },
  };
}

/** Whether an answer is complete and inside its budget. */
export function isMet(outcome: Outcome): boolean {
  return summary.isMet(sentOf(outcome));
}

/** Whether the client may rely on the budget. */
export function isGuaranteed({ admission }: Outcome): boolean {
  return admission.kind === 'admit' && admission.serviceClass === 'guaranteed';
}

export function reportOf(outcomes: readonly Outcome[], shape: DepthShape): Report {
  const found = summary.summaryOf(outcomes.map(sentOf));
  return { ...found, meanQuality: meanQualityOf(found, shape) };
}

/** Mean over the tokens of a run of their exits' measured quality. @throws Error if the shape lacks an exit */
export function meanQualityOf({ exits }: summary.Summary, shape: DepthShape): number {
  const parts = Object.entries(exits ?? {}).map(([layer, share]) => {
    const exit = shape.exits.find((each) => each.layer === Number(layer));
    if (exit === undefined) throw new Error(`no exit ${layer} in the costs`);
    return share * exit.quality;
  });
  return parts.reduce((sum, part) => sum + part, 0);
}
