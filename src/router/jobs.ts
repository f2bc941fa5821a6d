/**
 * What is left to do for a request at a given exit, in milliseconds of prefill and in decode steps.
 *
 * Knows: one request, the cost model. Must not know: its neighbours.
 */
import { factorOf } from './correct.js';
import { type Deadlines, deadlinesOf, hasBudget } from './deadlines.js';
import { type LengthModel, plannedLength } from './lengths.js';
import { type CostModel, exitIndex, rawBlockMs, rawStagesMs } from './model.js';
import type { Policy, SequenceState, WaitingRequest } from './types.js';

/** A request as planning sees it: exits are indices into the shape. */
export interface Job {
  readonly request: WaitingRequest;
  /** Null while it holds no slot. */
  readonly live: SequenceState | null;
  readonly min: number;
  readonly max: number;
  readonly present: number;
  readonly deadlines: Deadlines;
  readonly bound: boolean;
  /** Still before its next token can be sampled: prompt (or, after preemption, prompt and answer) to be processed. */
  readonly prefilling: boolean;
  /** Positions that all stages up to its exit must have processed before its next decode step. */
  readonly target: number;
  /** Tokens to plan for, those already emitted included. */
  readonly length: number;
  readonly firstTokenAt: number | null;
}

export function jobOf(
  request: WaitingRequest,
  live: SequenceState | null,
  model: CostModel,
  lengths: LengthModel,
  policy: Policy,
): Job {
  const { shape } = model;
  const whole = request.promptLength + request.generated;
  const seen = live?.frontier[0] ?? 0;
  const prefilling = request.generated === 0 || seen < whole - 1;
  return {
    request,
    live,
    min: exitIndex(shape, request.minExit),
    max: exitIndex(shape, request.maxExit),
    present: exitIndex(shape, request.exit),
    deadlines: deadlinesOf(request.arrivedAt, request.budget, policy),
    bound: hasBudget(request.budget),
    prefilling,
    target: prefilling ? whole : whole - 1,
    length: plannedLength(lengths, request.maxTokens, request.generated, policy.lengthQuantile),
    firstTokenAt: live?.firstTokenAt ?? null,
  };
}

/** Positions that the deepest lagging unit of an exit still has to process: 0 for a sequence that decodes there. */
export function gapAt(job: Job, exit: number, model: CostModel): number {
  const frontier = job.live?.frontier ?? [];
  const stage = model.shape.exits[exit]?.stage ?? 0;
  let least = job.target;
  for (let s = 0; s <= stage; s += 1) least = Math.min(least, frontier[s] ?? 0);
  if (model.blocks[exit] != null) least = Math.min(least, frontier[model.stages.length + exit] ?? 0);
  return Math.max(0, job.target - least);
}

/** Corrected milliseconds of all positions that the exit's units still miss: prefill, or catch-up when going deeper. */
export function missingMs(job: Job, exit: number, model: CostModel, chunk: number): number {
  const frontier = job.live?.frontier ?? [];
  const stages = model.stages.length;
  const stage = model.shape.exits[exit]?.stage ?? 0;
  let ms = 0;
  let most = 0;
  for (let s = 0; s <= stage; s += 1) {
    const from = frontier[s] ?? 0;
    if (from >= job.target) continue;
    most = Math.max(most, job.target - from);
    ms += rawStagesMs(model, s, s + 1, job.target - from, from, chunk);
  }
  if (model.blocks[exit] != null) {
    const from = frontier[stages + exit] ?? 0;
    most = Math.max(most, job.target - from);
    ms += rawBlockMs(model, exit, job.target - from, from, chunk);
  }
  return ms === 0 ? 0 : ms * factorOf(model.correction, 'prefill', Math.min(chunk, most));
}

/** Decode steps left after the prefill, whose last position gives a token by itself. */
export function stepsLeft(job: Job): number {
  return Math.max(0, job.length - job.request.generated - (job.prefilling ? 1 : 0));
}

/** Mean positions that attention reads for this job until it ends. */
export function meanContext(job: Job): number {
  return job.request.promptLength + (job.request.generated + job.length) / 2;
}
