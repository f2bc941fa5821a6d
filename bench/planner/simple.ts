/**
 * A simple router as a baseline: earliest deadline first, and the deepest exit with headroom at the current batch size.
 * Hopeless requests are best effort. Best-effort requests backfill. Admission has a learnt safety margin.
 */
import { type CostModel, type Work, costModel, exitIndex, predictMs } from '../../src/cost/model.js';
import { observeStep } from '../../src/cost/drift.js';
import { promptMs, stepTable } from '../../src/cost/step-costs.js';
import { OutputLengths } from '../../src/router/estimators/output-length.js';
import { observeGuarantee, initialMargin, marginAt } from '../../src/router/estimators/safety-margin.js';
import type {
  Admission,
  AnswerEnd,
  DepthPlan,
  EngineState,
  Policy,
  PrefillChunk,
  RequestView,
  StepSummary,
} from '../../src/router/index.js';
import { advanceWork, hasBudget, isWithin } from '../../src/router/index.js';
import type { RouterFacade } from '../../src/simulate/engine.js';
import type { Machine } from './machine.js';

const CHUNK_POSITIONS = 128;
/** Share of answers that a plan covers: it reserves this quantile of the answer's length. */
const COVERED_SHARE = 0.9;

export class SimpleRouter implements RouterFacade {
  #costs: CostModel;
  #margin = initialMargin;
  readonly #lengths: OutputLengths;
  readonly #policy: Policy;

  constructor({ model, table, prior, policy }: Machine) {
    this.#costs = costModel(table, model.shape);
    this.#lengths = new OutputLengths(model.shape.exits.length, prior);
    this.#policy = policy;
  }

  admit(arrived: readonly RequestView[], state: EngineState): Admission[] {
    return arrived.map((request, i) => {
      const present = state.live.length + state.waiting.length + i + 1;
      const { min, max } = this.#bounds(request);
      const queueMs = [...state.live, ...state.waiting, ...arrived.slice(0, i)]
        .filter(({ generated }) => generated === 0)
        .reduce((sum, other) => sum + this.#prefillMs(other, min), 0);
      const waits = Math.max(0, present - state.slots) / state.slots;
      const takesMs = (exit: number): number =>
        (queueMs + this.#leftMs(request, exit, Math.min(present, state.slots), COVERED_SHARE)) * (1 + waits);
      const leftMs = this.#deadline(request) - state.now;
      const isHeld = takesMs(min) * (1 + marginAt(this.#margin, state.now)) <= leftMs;
      if (!isHeld && request.budget?.onMiss === 'reject') return { kind: 'reject', leastFeasibleMs: null };
      let exit = max;
      while (exit > min && takesMs(exit) > leftMs) exit -= 1;
      const totalMs = takesMs(exit);
      return {
        kind: 'admit',
        exit: this.#costs.shape.exits[exit]?.layer ?? request.maxExit,
        reason: exit === max ? 'deepest' : 'load',
        serviceClass: !hasBudget(request.budget) ? 'none' : isHeld ? 'guaranteed' : 'best_effort',
        prediction: { ttftMs: queueMs, tpotMs: 0, totalMs, p10Ms: 0, p90Ms: totalMs },
        expectedTokens: 0,
        expectedTokensP90: 0,
        headroom: takesMs(min) > 0 ? leftMs / takesMs(min) : Infinity,
        probability: null,
        forecast: { totalMs, ttftMs: queueMs, budgetMs: leftMs, arrivals: 0 },
      };
    });
  }

  enqueued(): void {
    // The simple router does not plan for future arrivals.
  }

  order(state: EngineState): RequestView[] {
    return [...state.waiting].sort((a, b) => this.#latestStart(a, state) - this.#latestStart(b, state));
  }

  planStep({ now }: StepSummary, stateOf: () => EngineState): DepthPlan {
    const state = stateOf();
    const exits = state.live.map((each) => {
      const { min, max } = this.#bounds(each);
      let exit = max;
      const leftMs = this.#deadline(each) - now;
      while (exit > min && this.#leftMs(each, exit, state.live.length, COVERED_SHARE) * 1.1 > leftMs) exit -= 1;
      return { id: each.id, exit: this.#costs.shape.exits[exit]?.layer ?? each.exit };
    });
    const open = state.live.filter((each) => each.generated > 0 && this.#isOpen(each, state));
    const slack = Math.min(
      ...open.map((each) => this.#deadline(each) - now - this.#leftMs(each, 0, state.live.length, COVERED_SHARE)),
    );
    const paused = state.live
      .filter((each) => each.generated > 0 && !this.#isOpen(each, state))
      .filter(() => open.length > 0 && slack < 0)
      .filter((each) => now - (each.lastTokenAt ?? 0) < 10 * this.#stepMs(0, state.live.length));
    return { exits, paused: paused.map(({ id }) => id) };
  }

  choosePrefill({ promptIds, now }: StepSummary, _: ReadonlySet<string>, stateOf: () => EngineState): PrefillChunk[] {
    const state = stateOf();
    const prompts = state.live.filter(({ id }) => promptIds.has(id));
    const [first] = prompts.sort((a, b) => this.#latestStart(a, state) - this.#latestStart(b, state));
    if (first === undefined) return [];
    const due = this.#deadline(first);
    const isBlocked = state.live.some(
      (each) =>
        !promptIds.has(each.id) &&
        this.#isOpen(each, state) &&
        this.#deadline(each) < due &&
        this.#deadline(each) - now <
          this.#leftMs(each, 0, state.live.length, COVERED_SHARE) +
            promptMs(this.#costs, 0, CHUNK_POSITIONS, CHUNK_POSITIONS),
    );
    return isBlocked && now - first.arrivedAt < 1000 ? [] : [{ id: first.id, positions: CHUNK_POSITIONS }];
  }

  isOverdue({ budget, arrivedAt }: RequestView, now: number, work: Work): boolean {
    if (budget?.onMiss !== 'truncate' || budget.totalMs === null) return false;
    return now + predictMs(this.#costs, work) > arrivedAt + budget.totalMs - this.#policy.requestOverheadMs;
  }

  observeStep(work: Work, ms: number): void {
    this.#costs = observeStep(this.#costs, work, ms);
  }

  observeEnd(
    request: RequestView,
    admission: Admission | null,
    { path, endedAt, firstTokenAt, reason }: AnswerEnd,
  ): void {
    const tokens = path.reduce((sum, part) => sum + part.tokens, 0);
    if (!request.isExactLength) {
      const byIndex = path.map((part) => ({ exit: exitIndex(this.#costs.shape, part.exit), tokens: part.tokens }));
      this.#lengths.observe(request.lengthGroup, byIndex, reason === 'ended' && tokens < request.maxTokens);
    }
    if (admission?.kind !== 'admit' || admission.serviceClass !== 'guaranteed') return;
    const { arrivedAt, budget } = request;
    const isKept = isWithin(budget, {
      arrivedAt,
      firstTokenAt: firstTokenAt ?? endedAt,
      endedAt: endedAt + 12,
      tokens,
    });
    this.#margin = observeGuarantee(this.#margin, isKept, endedAt);
  }

  #bounds({ minExit, maxExit }: RequestView): { readonly min: number; readonly max: number } {
    return { min: exitIndex(this.#costs.shape, minExit), max: exitIndex(this.#costs.shape, maxExit) };
  }

  #deadline({ arrivedAt, budget }: RequestView): number {
    return arrivedAt + (budget?.totalMs ?? Infinity) - this.#policy.requestOverheadMs;
  }

  #stepMs(exit: number, rows: number): number {
    const counts = new Int32Array(this.#costs.shape.exits.length);
    counts[exit] = Math.max(1, rows);
    return stepTable(this.#costs, 256)(counts);
  }

  #prefillMs({ frontier, promptLength, generated }: RequestView, exit: number): number {
    const upTo = promptLength + generated - 1;
    return predictMs(this.#costs, {
      decode: null,
      prefill: advanceWork(frontier, exit, upTo, this.#costs, CHUNK_POSITIONS),
    });
  }

  #leftMs(request: RequestView, exit: number, rows: number, share: number): number {
    const { generated, maxTokens, isExactLength, lengthGroup } = request;
    const length = isExactLength
      ? maxTokens
      : (this.#lengths.of(lengthGroup)[exit]?.quantile(share, generated, maxTokens) ?? maxTokens);
    return this.#prefillMs(request, exit) + (length - generated) * this.#stepMs(exit, rows);
  }

  #isOpen(request: RequestView, { now }: EngineState): boolean {
    return now + this.#leftMs(request, 0, 1, 0.5) <= this.#deadline(request) && hasBudget(request.budget);
  }

  #latestStart(request: RequestView, state: EngineState): number {
    const aloneMs = this.#leftMs(request, 0, 1, 0.5);
    return this.#isOpen(request, state) ? this.#deadline(request) - aloneMs : request.arrivedAt + 10 * aloneMs;
  }
}
