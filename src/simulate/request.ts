/** One simulated request, and the effect of a step on it. */
import {
  type CostModel,
  type DepthShape,
  type ExitIndex,
  type PrefillWork,
  type Work,
  exitIndex,
  predictMs,
} from '../cost/model.js';
import {
  type Budget,
  type ExitLayer,
  type LengthGroup,
  type Policy,
  type PrefillChunk,
  type SequenceView,
  advanceWork,
  frontierAt,
} from '../scheduler/router.js';

export interface SimulatedRequest {
  readonly id: string;
  readonly arrivedAt: number;
  readonly promptLength: number;
  /** Tokens of the answer by exit index, shallowest first, if all of its tokens leave at that exit. */
  readonly lengths: readonly number[];
  readonly maxTokens: number;
  /** Whether the router knows that the answer runs to maxTokens; no client states that. */
  readonly isExactLength: boolean;
  readonly lengthGroup: LengthGroup;
  /** Absent: that of all requests without one. */
  readonly tenant?: string;
  readonly budget: Budget | null;
  /** Null: the bounds of the model. */
  readonly minExit: ExitLayer | null;
  readonly maxExit: ExitLayer | null;
  /** Estimated quality of each exit; absent: the model's. */
  readonly quality?: readonly number[];
  /** For reports. */
  readonly budgetClass: string;
}

export interface LiveRequest extends SequenceView {
  readonly request: SimulatedRequest;
  /** Tokens of the whole answer if it keeps its exit. */
  readonly length: number;
  /** Tokens in order, by exit layer. */
  readonly path: readonly { readonly exit: ExitLayer; readonly tokens: number }[];
  readonly preemptions: number;
}

/** Whether positions remain before the next token: of the prompt and, after a preemption, of the answer. */
export function isPrefilling({ generated, frontier, promptLength }: LiveRequest): boolean {
  return (frontier[0] ?? 0) < promptLength + generated - 1;
}

/** Whether an answer has ended. */
export function isDone({ path, length, generated, maxTokens }: LiveRequest): boolean {
  return generated >= (path.length === 0 ? maxTokens : Math.min(maxTokens, length));
}

/** A request without any finished work. */
export function start(request: SimulatedRequest, shape: DepthShape): LiveRequest {
  const minExit = request.minExit ?? shape.exits[0]?.layer ?? 0;
  const maxExit = request.maxExit ?? shape.exits.at(-1)?.layer ?? 0;
  const { id, arrivedAt, promptLength, maxTokens, isExactLength, lengthGroup, budget } = request;
  const frontier = new Array<number>(shape.stages.length + shape.exits.length).fill(0);
  return {
    id,
    arrivedAt,
    promptLength,
    maxTokens,
    isExactLength,
    lands: (budget?.onMiss === 'land' || budget?.onMiss === 'reject') && budget.totalMs !== null && !isExactLength,
    lengthGroup,
    tenant: request.tenant ?? '',
    budget,
    ...(request.quality && { quality: request.quality }),
    request,
    minExit,
    maxExit,
    exit: maxExit,
    serviceClass: 'guaranteed',
    generated: 0,
    frontier,
    expectedFrontier: frontier,
    sentenceTokens: 0,
    firstTokenAt: null,
    lastTokenAt: null,
    path: [],
    length: Infinity,
    preemptions: 0,
  };
}

/** A request with another frontier. */
function withFrontier(each: LiveRequest, frontier: readonly number[]): LiveRequest {
  return { ...each, frontier, expectedFrontier: frontier };
}

/** A preempted request: it keeps its tokens and prefills again. */
export function preempted(each: LiveRequest): LiveRequest {
  const frontier = each.frontier.map(() => 0);
  return { ...withFrontier(each, frontier), preemptions: each.preemptions + 1 };
}

/** Tokens of every sentence in the simulation. */
const SENTENCE_TOKENS = 18;

export interface StepPlan {
  readonly work: Work;
  /** Returns the live requests after the step, which ended at `now`. */
  readonly advance: (live: readonly LiveRequest[], now: number) => LiveRequest[];
}

/** The router's decisions for a step. */
export interface StepParts {
  /** Ids of the sequences that skip its decode. */
  readonly paused: ReadonlySet<string>;
  readonly chunks: readonly PrefillChunk[];
}

/** Indices into a frontier: the trunk stages that an exit needs, then its block. */
function unitsOf(exit: ExitIndex, { shape }: CostModel): number[] {
  const { stage, block } = shape.exits[exit] ?? { stage: 0, block: null };
  const units = Array.from({ length: stage + 1 }, (_, unit) => unit);
  return block === null ? units : [...units, shape.stages.length + exit];
}

/** Positions of a request up to its next token. */
const whole = ({ promptLength, generated }: LiveRequest): number => promptLength + generated;

/** The decode of requests that emit a token. */
function decodeOf(emitting: readonly LiveRequest[], shape: DepthShape): Work['decode'] {
  if (emitting.length === 0) return null;
  const rows = new Array<number>(shape.exits.length).fill(0);
  let context = 0;
  for (const each of emitting) {
    const exit = exitIndex(shape, each.exit);
    rows[exit] = (rows[exit] ?? 0) + 1;
    context += whole(each) - 1;
  }
  return { rows, context: context / emitting.length };
}

/** A request after a step that processed its positions up to `target`. Its last position emits a token. */
function advanced(each: LiveRequest, target: number, model: CostModel, now: number): LiveRequest {
  const exit = exitIndex(model.shape, each.exit);
  const units = new Set(unitsOf(exit, model));
  const frontier = each.frontier.map((at, unit) => (units.has(unit) ? Math.max(at, target) : at));
  if (target < whole(each)) return withFrontier(each, frontier);
  const last = each.path.at(-1);
  const hasExit = last?.exit === each.exit;
  const path = hasExit
    ? [...each.path.slice(0, -1), { exit: each.exit, tokens: last.tokens + 1 }]
    : [...each.path, { exit: each.exit, tokens: 1 }];
  return {
    ...withFrontier(each, frontier),
    length: hasExit ? each.length : (each.request.lengths[exit] ?? Infinity),
    generated: each.generated + 1,
    sentenceTokens: (each.generated + 1) % SENTENCE_TOKENS,
    firstTokenAt: each.firstTokenAt ?? now,
    lastTokenAt: now,
    path,
  };
}

/**
 * The work of one step. A sequence that changed its exit catches up first, and decodes in the same step once it has.
 * Prompts continue only if no sequence catches up. A prompt decodes in the same step if only its last position is left.
 */
export function planStep(
  live: readonly LiveRequest[],
  { paused, chunks }: StepParts,
  model: CostModel,
  policy: Policy,
): StepPlan {
  const { shape } = model;
  const largest = policy.chunks.at(-1) ?? 1;
  const exitOf = (each: LiveRequest): ExitIndex => exitIndex(shape, each.exit);
  const least = (each: LiveRequest): number => frontierAt(each.frontier, exitOf(each), model);
  /** Positions that each request reaches; a request that processes its last position emits a token. */
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
  const chosen = chunks.flatMap(({ id, positions }) => {
    const prompt = live.find((each) => each.id === id);
    return prompt === undefined ? [] : [{ prompt, positions }];
  });
  if (prefill.length === 0) for (const { prompt, positions } of chosen) goOn(prompt, whole(prompt) - 1, positions);
  const decoding = live.filter((each) => !isPrefilling(each) && !paused.has(each.id));
  const ready = [...decoding, ...chosen.map(({ prompt }) => prompt).filter(isPrefilling)];
  const emitting = ready.filter((each) => (targets.get(each.id) ?? least(each)) >= whole(each) - 1);
  for (const each of emitting) targets.set(each.id, whole(each));
  const advance = (before: readonly LiveRequest[], now: number): LiveRequest[] =>
    before.map((each) => {
      const target = targets.get(each.id);
      return target === undefined ? each : advanced(each, target, model, now);
    });
  return { work: { decode: decodeOf(emitting, shape), prefill }, advance };
}
