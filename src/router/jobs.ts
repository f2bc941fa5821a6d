/**
 * What is left to do for a request at a given exit, in milliseconds of prefill and in decode steps.
 *
 * Knows: one request, the cost model. Must not know: its neighbours.
 */
import { factorOf } from './correct.js';
import { type Deadlines, deadlinesOf, hasBudget } from './deadlines.js';
import { type LengthModel, plannedLength } from './lengths.js';
import { type CostModel, type PrefillWork, exitIndex, unitPrefillMs } from './model.js';
import { promptMs } from './steps.js';
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
  /** Has a budget: it is served by its deadline. */
  readonly bound: boolean;
  /** Whether plans hold time for its budget, and whether its caller relies on it: where not all can be kept, these are. */
  readonly promised: boolean;
  readonly told: boolean;
  /** Still before its next token can be sampled: prompt (or, after preemption, prompt and answer) to be processed. */
  readonly prefilling: boolean;
  /** Positions that all stages up to its exit must have processed before its next decode step: all but the last. */
  readonly target: number;
  /** Tokens to plan for, those already emitted included: what it may well come to. */
  readonly length: number;
  /** Tokens that it most likely comes to: what is predicted, and what decides that a deadline can't be met. */
  readonly likely: number;
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
    promised: request.promised !== false,
    told: request.told !== false,
    prefilling,
    target: whole - 1,
    length: plannedLength(lengths, request.maxTokens, request.generated, policy.lengthQuantile),
    likely: plannedLength(lengths, request.maxTokens, request.generated, Math.min(0.5, policy.lengthQuantile)),
    firstTokenAt: request.firstTokenAt ?? null,
  };
}

/** Least number of positions that any unit of an exit has processed. */
export function frontierAt(frontier: readonly number[], exit: number, { shape }: CostModel): number {
  const { stage, block } = shape.exits[exit] ?? { stage: -1, block: null };
  let least = Infinity;
  for (let s = 0; s <= stage; s += 1) least = Math.min(least, frontier[s] ?? 0);
  return block === null ? least : Math.min(least, frontier[shape.stages.length + exit] ?? 0);
}

/** What is processed by now. */
function frontierOf({ request }: Job): readonly number[] {
  return request.frontier ?? [];
}

/** What will be by its turn. */
export function expectedOf(job: Job): readonly number[] {
  return job.request.expected ?? frontierOf(job);
}

/** Positions that an exit's units still miss: the prompt's rest, or the catch-up of a deeper exit. */
export function gapAt(job: Job, exit: number, model: CostModel, frontier = frontierOf(job)): number {
  return Math.max(0, job.target - frontierAt(frontier, exit, model));
}

/**
 * What brings every unit of an exit to `upTo` positions: one piece per run of stages that are equally far, one for the
 * exit's block. Empty where all are there.
 */
export function advanceWork(
  frontier: readonly number[],
  exit: number,
  upTo: number,
  { shape }: CostModel,
  chunk: number,
): PrefillWork[] {
  const { stage, block } = shape.exits[exit] ?? { stage: -1, block: null };
  const work: PrefillWork[] = [];
  for (let from = 0; from <= stage;) {
    const context = frontier[from] ?? 0;
    let to = from + 1;
    while (to <= stage && (frontier[to] ?? 0) === context) to += 1;
    if (context < upTo) work.push({ exit, positions: upTo - context, context, chunk, from, to });
    from = to;
  }
  const context = block === null ? upTo : (frontier[shape.stages.length + exit] ?? 0);
  if (context < upTo) work.push({ exit, positions: upTo - context, context, chunk, from: stage + 1 });
  return work;
}

/** What `advanceWork` takes, corrected, without the pieces: plans ask for it at every exit of every prompt. */
function advanceMs(frontier: readonly number[], exit: number, upTo: number, model: CostModel, chunk: number): number {
  const { stage, block } = model.shape.exits[exit] ?? { stage: -1, block: null };
  let ms = 0;
  const add = (unit: number, context: number): void => {
    const positions = upTo - context;
    if (positions <= 0) return;
    const raw = unitPrefillMs(model, unit, positions, context, chunk);
    ms += raw * factorOf(model.correction, 'prefill', Math.min(chunk, positions));
  };
  for (let unit = 0; unit <= stage; unit += 1) add(unit, frontier[unit] ?? 0);
  if (block !== null) add(model.shape.stages.length + exit, frontier[model.shape.stages.length + exit] ?? 0);
  return ms;
}

/** Corrected milliseconds of all positions that the exit's units still miss. */
export function missingMs(job: Job, exit: number, model: CostModel, chunk: number, frontier = frontierOf(job)): number {
  if (gapAt(job, exit, model, frontier) === 0) return 0;
  if ((frontier[0] ?? 0) === 0) return promptMs(model, exit, job.target, chunk);
  return advanceMs(frontier, exit, job.target, model, chunk);
}

/** Decode steps left to a length: one for each token, the first one after the prompt included. */
export function stepsLeft(job: Job, length: number = job.length): number {
  return Math.max(0, length - job.request.generated);
}

/** Latest instant of the last token by pace, if the first one comes at an instant. */
export function pacedEnd({ length, deadlines }: Job, firstAt: number): number {
  return length < 2 ? Infinity : firstAt + deadlines.tpot * (length - 1);
}

/** Mean positions that attention reads for this job until it ends. */
export function meanContext(job: Job): number {
  return job.request.promptLength + (job.request.generated + job.length) / 2;
}
