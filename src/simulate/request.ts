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
  type PrefillWork,
  type SequenceState,
  type WaitingRequest,
  type Work,
  advanceWork,
  frontierAt,
  predictMs,
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
  readonly preemptions: number;
}

/** Still before its next token can be decoded: its prompt, or after preemption all of it but the last position, is to be processed. */
export function isPrefilling({ generated, frontier, promptLength }: LiveRequest): boolean {
  return (frontier[0] ?? 0) < promptLength + generated - 1;
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
    preemptions: 0,
  };
}

/** What the planner may see of a request without a slot. */
export function toWaiting(each: LiveRequest): WaitingRequest {
  const { id, arrivedAt, promptLength, generated, firstTokenAt, maxTokens, exit, minExit, maxExit, budget } = each;
  return {
    ...{ id, arrivedAt, promptLength, generated, firstTokenAt, maxTokens, exit, minExit, maxExit, budget },
    promised: each.promised ?? true,
    told: each.told ?? true,
  };
}

export interface StepPlan {
  readonly work: Work;
  /** The live requests after the step, which ended at `now`. */
  readonly advance: (live: readonly LiveRequest[], now: number) => LiveRequest[];
}

/** What the planner decided of a step. */
export interface StepParts {
  /** Who may decode in this step. */
  readonly decoding: readonly LiveRequest[];
  readonly chunk: Chunk | null;
}

/** Trunk stages that an exit needs, then its block: indices into a frontier. */
function unitsOf(exit: number, { shape }: CostModel): number[] {
  const { stage, block } = shape.exits[exit] ?? { stage: 0, block: null };
  const units = Array.from({ length: stage + 1 }, (_, unit) => unit);
  return block === null ? units : [...units, shape.stages.length + exit];
}

/**
 * The work of one step. Whoever changed its exit catches up first and decodes as soon as it has; only when nobody has
 * to, a prompt goes on, and decodes in the same step when only its last position is left.
 */
export function planStep(
  live: readonly LiveRequest[],
  { decoding, chunk }: StepParts,
  model: CostModel,
  policy: Policy,
): StepPlan {
  const { shape } = model;
  const largest = policy.chunks.at(-1) ?? 1;
  const exitOf = (each: LiveRequest): number => shape.exits.findIndex((exit) => exit.layer === each.exit);
  const least = (each: LiveRequest): number => frontierAt(each.frontier, exitOf(each), model);
  const whole = (each: LiveRequest): number => each.promptLength + each.generated;
  /** How far each gets; whoever decodes its last position gives a token. */
  const targets = new Map<string, number>();

  const prefill: PrefillWork[] = [];
  const goOn = (each: LiveRequest, end: number, most: number): void => {
    const from = least(each);
    const upTo = Math.min(end, from + most);
    prefill.push(...advanceWork(each.frontier, exitOf(each), upTo, model, Math.max(1, upTo - from)));
    targets.set(each.id, upTo);
  };
  for (const each of live) {
    if (isPrefilling(each) || least(each) >= whole(each) - 1) continue;
    if (prefill.length > 0 && predictMs(model, { decode: null, prefill }) > policy.maxStallMs) break;
    goOn(each, whole(each) - 1, largest);
  }
  const prompt = live.find((each) => each.id === chunk?.id);
  if (prefill.length === 0 && prompt !== undefined) goOn(prompt, whole(prompt) - 1, chunk?.positions ?? 0);
  const ready = prompt !== undefined && isPrefilling(prompt) ? [...decoding, prompt] : decoding;

  const rows = new Array<number>(shape.exits.length).fill(0);
  let context = 0;
  let count = 0;
  for (const each of ready) {
    if ((targets.get(each.id) ?? least(each)) < whole(each) - 1) continue;
    const exit = exitOf(each);
    rows[exit] = (rows[exit] ?? 0) + 1;
    context += whole(each) - 1;
    count += 1;
    targets.set(each.id, whole(each));
  }
  const decode = count === 0 ? null : { rows, context: context / count };
  const advance = (before: readonly LiveRequest[], now: number): LiveRequest[] =>
    before.map((each) => {
      const target = targets.get(each.id);
      if (target === undefined) return each;
      const units = new Set(unitsOf(exitOf(each), model));
      const frontier = each.frontier.map((at, unit) => (units.has(unit) ? Math.max(at, target) : at));
      if (target < whole(each)) return { ...each, frontier };
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
