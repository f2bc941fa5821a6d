/**
 * One simulated request and what a step does to it.
 *
 * Knows: frontiers and tokens. Must not know: who decides exits and chunks.
 */
import {
  type Budget,
  type Chunk,
  type CostModel,
  type DepthShape,
  type Policy,
  type SequenceState,
  type WaitingRequest,
  type Work,
  advanceWork,
} from '../router/planner.js';

export interface SimulatedRequest {
  readonly id: string;
  readonly arrivedAt: number;
  readonly promptLength: number;
  /** Length that the answer will have, unknown to the planner. */
  readonly tokens: number;
  readonly maxTokens: number;
  readonly budget: Budget | null;
  /** Null: the model's own bounds. */
  readonly minExit: number | null;
  readonly maxExit: number | null;
  /** For reports. */
  readonly budgetClass: string;
}

export interface LiveRequest extends SequenceState {
  readonly request: SimulatedRequest;
  readonly byExit: ReadonlyMap<number, number>;
  readonly replans: number;
}

/** A request that nothing was done for yet. */
export function start(request: SimulatedRequest, shape: DepthShape): LiveRequest {
  const minExit = request.minExit ?? shape.exits[0]?.layer ?? 0;
  const maxExit = request.maxExit ?? shape.exits.at(-1)?.layer ?? 0;
  const { id, arrivedAt, promptLength, maxTokens, budget } = request;
  return {
    ...{ id, arrivedAt, promptLength, maxTokens, budget, request, minExit, maxExit, exit: maxExit },
    generated: 0,
    frontier: new Array<number>(shape.stages.length + shape.exits.length).fill(0),
    firstTokenAt: null,
    lastTokenAt: null,
    tokensAtExit: 0,
    byExit: new Map(),
    replans: 0,
  };
}

/** What the planner may see of a request without a slot. */
export function toWaiting(each: LiveRequest): WaitingRequest {
  const { id, arrivedAt, promptLength, generated, maxTokens, exit, minExit, maxExit, budget, promised } = each;
  return {
    id,
    arrivedAt,
    promptLength,
    generated,
    maxTokens,
    exit,
    minExit,
    maxExit,
    budget,
    promised: promised ?? true,
  };
}

export interface StepPlan {
  readonly work: Work;
  /** The live requests after the step, which ended at `now`. */
  readonly advance: (live: readonly LiveRequest[], now: number) => LiveRequest[];
}

/** The work of one step: a chunk of prefill, catch-up of those that went deeper, one token for each decoding row. */
export function planStep(
  live: readonly LiveRequest[],
  decoding: readonly LiveRequest[],
  chunk: Chunk | null,
  model: CostModel,
  policy: Policy,
): StepPlan {
  const { shape } = model;
  const largest = policy.chunks.at(-1) ?? 1;
  const exitOf = (each: LiveRequest): number => shape.exits.findIndex((exit) => exit.layer === each.exit);
  const rows = new Array<number>(shape.exits.length).fill(0);
  let context = 0;
  const targets = new Map<string, number>();
  const prefill = decoding.flatMap((each) => {
    const exit = exitOf(each);
    const there = each.promptLength + each.generated - 1;
    rows[exit] = (rows[exit] ?? 0) + 1;
    context += there;
    targets.set(each.id, there + 1);
    return advanceWork(each.frontier, exit, there, model, largest);
  });
  const prompt = live.find((each) => each.id === chunk?.id);
  if (prompt !== undefined && chunk !== null) {
    const exit = exitOf(prompt);
    const units = [...shape.stages.keys()].filter((stage) => stage <= (shape.exits[exit]?.stage ?? 0));
    if (shape.exits[exit]?.block != null) units.push(shape.stages.length + exit);
    const least = Math.min(...units.map((unit) => prompt.frontier[unit] ?? 0));
    const upTo = Math.min(prompt.promptLength, least + chunk.positions);
    prefill.push(...advanceWork(prompt.frontier, exit, upTo, model, chunk.positions));
    targets.set(prompt.id, upTo);
  }
  const decode = decoding.length === 0 ? null : { rows, context: context / decoding.length };
  const advance = (before: readonly LiveRequest[], now: number): LiveRequest[] =>
    before.map((each) => {
      const target = targets.get(each.id);
      if (target === undefined) return each;
      const exit = exitOf(each);
      const stage = shape.exits[exit]?.stage ?? 0;
      const frontier = each.frontier.map((at, unit) =>
        unit <= stage || unit === shape.stages.length + exit ? Math.max(at, target) : at,
      );
      if (each.generated === 0 && target < each.promptLength) return { ...each, frontier };
      return {
        ...each,
        frontier,
        generated: each.generated + 1,
        firstTokenAt: each.firstTokenAt ?? now,
        lastTokenAt: now,
        tokensAtExit: each.tokensAtExit + 1,
        byExit: new Map(each.byExit).set(each.exit, (each.byExit.get(each.exit) ?? 0) + 1),
      };
    });
  return { work: { decode, prefill }, advance };
}
