/** One simulated request, and the request that the scheduler gets for it. */
import type { DepthShape } from '../../src/engine/scheduler/cost/model.js';
import type { Budget, SequenceRequest, ExitLayer, AnswerKind } from '../../src/protocol/index.js';
import { greedy } from '../../bench/greedy-request.js';

export interface SimulatedRequest {
  readonly id: string;
  readonly arrivedAt: number;
  readonly promptLength: number;
  /** Tokens of the answer by exit index, shallowest first, if all of its tokens leave at that exit. */
  readonly lengths: readonly number[];
  readonly maxTokens: number;
  /** Tokens of each of its sentences; absent: 18. */
  readonly sentenceTokens?: number;
  /** Whether the scheduler knows that the answer runs to maxTokens; no client states that. */
  readonly isExactLength: boolean;
  readonly kind: AnswerKind;
  /** Absent: that of all requests without one. */
  readonly tenant?: string;
  readonly budget: Budget | null;
  /** Whether it sleeps, as the net of an upstream. */
  readonly isNet?: boolean;
  /** Null: the bounds of the model. */
  readonly minExit: ExitLayer | null;
  readonly maxExit: ExitLayer | null;
  /** For reports. */
  readonly budgetClass: string;
}

/** The token that ends answers. Prompts hold other ones. */
export const END_TOKEN = 0;

/** @param number tells the request's tokens from those of others, so that no two prompts share a prefix */
export function engineRequest(request: SimulatedRequest, number: number, shape: DepthShape): SequenceRequest {
  const { id, arrivedAt, promptLength, maxTokens, isExactLength, kind, tenant, budget, isNet } = request;
  const [first = 0, last = 0] = [shape.exits[0]?.layer, shape.exits.at(-1)?.layer];
  return greedy(id, new Array<number>(promptLength).fill(number + 1), last, maxTokens, {
    arrivedAt,
    stopTokens: isExactLength ? [] : [END_TOKEN],
    depth: { minExit: request.minExit ?? first, maxExit: request.maxExit ?? last, budget },
    kind,
    ...(tenant !== undefined && { tenant }),
    ...(isNet === true && { isNet }),
  });
}
