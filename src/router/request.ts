/**
 * One request in planning units: deadlines as instants, work left as milliseconds and tokens at each exit.
 *
 * Knows: one request, the cost model, output lengths. Must not know: other requests.
 */
import { type CostModel, type PrefillWork, exitIndex, predictMs } from '../cost/model.js';
import { oneRowStepMs, promptMs } from '../cost/step-costs.js';
import type { LengthDistribution, OutputLengths } from './estimators/output-length.js';
import { type Policy, plannedChunk } from './policy.js';
import type { Budget, RequestView, SequenceView } from './types.js';

/** What a budget means in instants; Infinity where it says nothing. */
export interface Deadlines {
  readonly firstToken: number;
  readonly end: number;
  /** Mean milliseconds per token after the first. */
  readonly tpotMs: number;
}

/** A request as planning sees it: exits are indices into the shape. */
export interface PlannedRequest {
  readonly request: RequestView;
  /** Null while it holds no slot. */
  readonly live: SequenceView | null;
  readonly minExit: number;
  readonly maxExit: number;
  readonly currentExit: number;
  readonly deadlines: Deadlines;
  readonly hasDeadline: boolean;
  /** Prompt, or after preemption prompt and answer, is not processed yet. */
  readonly isPrefilling: boolean;
  /** Positions that every stage of its exit has processed before its next decode step: all but the last. */
  readonly target: number;
  /** By exit; null where the answer runs to maxTokens. */
  readonly lengths: readonly LengthDistribution[] | null;
}

/** Whether a budget states anything at all. */
export function hasBudget(budget: Budget | null): budget is Budget {
  return budget !== null && (budget.totalMs !== null || budget.ttftMs !== null || budget.tpotMs !== null);
}

/** The request's overhead outside the engine is taken off. */
export function deadlinesOf(arrivedAt: number, budget: Budget | null, { requestOverheadMs }: Policy): Deadlines {
  const at = arrivedAt - requestOverheadMs;
  return {
    firstToken: at + (budget?.ttftMs ?? Infinity),
    end: at + (budget?.totalMs ?? Infinity),
    tpotMs: budget?.tpotMs ?? Infinity,
  };
}

export function plannedRequest(
  request: RequestView,
  live: SequenceView | null,
  { shape }: CostModel,
  lengths: OutputLengths,
  policy: Policy,
): PlannedRequest {
  const known = request.promptLength + request.generated;
  return {
    request,
    live,
    minExit: exitIndex(shape, request.minExit),
    maxExit: exitIndex(shape, request.maxExit),
    currentExit: exitIndex(shape, request.exit),
    deadlines: deadlinesOf(request.arrivedAt, request.budget, policy),
    hasDeadline: hasBudget(request.budget),
    isPrefilling: request.generated === 0 || (live?.frontier[0] ?? 0) < known - 1,
    target: known - 1,
    lengths: request.isExactLength ? null : lengths.of(request.lengthGroup, request.budget?.totalMs ?? null),
  };
}

/**
 * Mean decode steps left at an exit: one for each token, the first one after the prompt included.
 * @param most steps that count: what is left beyond them counts as them
 */
export function meanStepsLeft({ request, lengths }: PlannedRequest, exit: number, most = Infinity): number {
  const { generated, maxTokens } = request;
  const known = lengths?.[exit]?.meanLeft(generated, Math.min(maxTokens, generated + most));
  return known ?? Math.max(0, maxTokens - generated);
}

/** Decode steps left that a share of such answers does not exceed at an exit. */
export function stepsLeft({ request, lengths }: PlannedRequest, exit: number, share: number): number {
  const { generated, maxTokens } = request;
  return (lengths?.[exit]?.quantile(share, generated, maxTokens) ?? maxTokens) - generated;
}

/** Probability that at most so many decode steps are left at an exit. */
export function probabilityWithin({ request, lengths }: PlannedRequest, exit: number, steps: number): number {
  const { generated, maxTokens } = request;
  if (steps >= maxTokens - generated) return 1;
  const longer = lengths?.[exit];
  if (longer === undefined) return 0;
  return 1 - longer.longerThan(generated + Math.max(0, steps)) / Math.max(1e-9, longer.longerThan(generated));
}

/** Least number of positions that any unit of an exit has processed. */
export function frontierAt(frontier: readonly number[], exit: number, { shape }: CostModel): number {
  const { stage, block } = shape.exits[exit] ?? { stage: -1, block: null };
  let least = Infinity;
  for (let s = 0; s <= stage; s += 1) least = Math.min(least, frontier[s] ?? 0);
  return block === null ? least : Math.min(least, frontier[shape.stages.length + exit] ?? 0);
}

/** Positions that an exit's units still lack: the rest of the prompt, or the catch-up of a deeper exit. */
export function remainingPrefill(
  planned: PlannedRequest,
  exit: number,
  model: CostModel,
  frontier = planned.request.frontier,
): number {
  return Math.max(0, planned.target - frontierAt(frontier, exit, model));
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

/** Setup cost of an exit, ms: all positions that its units still lack. */
export function setupMs(
  planned: PlannedRequest,
  exit: number,
  model: CostModel,
  chunk: number,
  frontier = planned.request.frontier,
): number {
  if (remainingPrefill(planned, exit, model, frontier) === 0) return 0;
  if ((frontier[0] ?? 0) === 0) return promptMs(model, exit, planned.target, chunk);
  return predictMs(model, { decode: null, prefill: advanceWork(frontier, exit, planned.target, model, chunk) });
}

/** Latest instant of the last token by TPOT, if the first one comes at an instant and so many follow. */
export function tpotDeadline({ request, deadlines }: PlannedRequest, firstAt: number, stepsToCome: number): number {
  const tokens = request.generated + stepsToCome;
  return tokens < 2 || deadlines.tpotMs === Infinity ? Infinity : firstAt + deadlines.tpotMs * (tokens - 1);
}

/** Mean positions that attention reads for this request until it ends. */
export function meanContext(planned: PlannedRequest): number {
  const { promptLength, generated } = planned.request;
  return promptLength + generated + meanStepsLeft(planned, planned.maxExit) / 2;
}

/** Milliseconds that the request most likely takes on an idle machine at an exit. */
export function aloneMs(planned: PlannedRequest, exit: number, model: CostModel, policy: Policy): number {
  const stepMs = oneRowStepMs(model, exit, meanContext(planned));
  return setupMs(planned, exit, model, plannedChunk(policy)) + stepsLeft(planned, exit, 0.5) * stepMs;
}

/**
 * When a request without a budget, or past it, is due, so that it gets its share of the machine and never starves: what
 * takes `aloneMs` on an idle machine may take 1/share of it.
 */
export function virtualDeadline(arrivedAt: number, aloneMs: number, { noBudgetShare }: Policy): number {
  return arrivedAt + aloneMs / noBudgetShare;
}

/** Sorts by rising instant; several of them may be never. */
export function byInstant(a: number, b: number): number {
  return a === b ? 0 : a - b;
}

/** An answer as its client sees it: instants in ms. */
export interface Finish {
  readonly arrivedAt: number;
  readonly firstTokenAt: number;
  readonly endedAt: number;
  readonly tokens: number;
}

/** Whether an answer came within all that its budget states. */
export function isWithin(budget: Budget | null, { arrivedAt, firstTokenAt, endedAt, tokens }: Finish): boolean {
  if (budget === null) return true;
  const within = (ms: number, limit: number | null): boolean => limit === null || ms <= limit;
  const tpot = tokens < 2 ? 0 : (endedAt - firstTokenAt) / (tokens - 1);
  return (
    within(endedAt - arrivedAt, budget.totalMs) &&
    within(firstTokenAt - arrivedAt, budget.ttftMs) &&
    within(tpot, budget.tpotMs)
  );
}
