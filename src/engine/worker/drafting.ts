/**
 * Steps of a sequence that decodes alone: its draft runs through its exit, which verifies it.
 *
 * Must not know: admission, batches.
 */
import type { Executor } from '../execution/executor.js';
import type { SampledToken } from '../sampling/sample-batch.js';
import type { Sequence } from '../sequence.js';
import type { SlotManager } from '../slots/slot-manager.js';
import { isCutAtDeadline } from '../landing-plan.js';
import type { Landings } from '../landing/landings.js';
import { maySpeculate } from '../speculation/eligibility.js';
import { type Draft, Speculation } from '../speculation/speculation.js';
import type { Speculate } from '../client/options.js';
import type { StepWork } from '../protocol.js';
import type { RouterAdapter } from './router-adapter.js';
import { type AdvanceTotals, decodeWork, type StepTimes, stepWork } from './step-stats.js';

export class Drafting {
  readonly #executor: Executor;
  readonly #slotManager: SlotManager;
  readonly #router: RouterAdapter;
  readonly #landings: Landings;
  readonly #speculate: Speculate;
  readonly #speculation: Speculation;

  constructor(
    executor: Executor,
    slotManager: SlotManager,
    router: RouterAdapter,
    landings: Landings,
    speculate: Speculate,
  ) {
    this.#executor = executor;
    this.#slotManager = slotManager;
    this.#router = router;
    this.#landings = landings;
    this.#speculate = speculate;
    this.#speculation = new Speculation(executor);
  }

  /** Drafts for a sequence and runs the draft through its exit; null without a draft worth its cost. */
  run(sequence: Sequence, now: () => number): Draft | null {
    const { request, generated, tokens, exit } = sequence;
    if (!maySpeculate(request, this.#speculate)) return null;
    if (isCutAtDeadline(request)) {
      // Drafting and verification together take no longer than two steps.
      const decode = decodeWork([sequence], this.#router.shape);
      const twoSteps = { decode, prefill: this.#router.advanceWork(sequence, tokens.length) };
      if (this.#router.isOverdue(sequence, now(), twoSteps)) return null;
    }
    const { table } = this.#executor;
    const bytes = table.bytesAt(exit, tokens.length + 1);
    let most = request.maxTokens - generated - 1;
    while (most > 0 && table.bytesAt(exit, tokens.length + 1 + most) - bytes > this.#slotManager.freeBytes) most >>= 1;
    const draft = this.#speculation.draft(sequence, most, (tokens) => this.#landings.mustEnd(sequence, tokens));
    if (draft === null) return null;
    this.#landings.plan(sequence, draft.tokens);
    this.#speculation.run(sequence, draft);
    return draft;
  }

  /**
   * Emits the accepted tokens of a draft. The cost model learns nothing from it: plans count on plain steps.
   * @param take emits a token; false where its answer ends with it
   */
  commit(
    sequence: Sequence,
    draft: Draft,
    prefilled: AdvanceTotals,
    took: StepTimes,
    take: (choice: SampledToken) => boolean,
  ): StepWork {
    const decode = decodeWork([sequence], this.#router.shape);
    const plainMs = this.#router.predictMs({ decode, prefill: [] });
    const before = sequence.generated;
    const accepted = this.#speculation.verify(sequence, draft, take);
    const tokens = Math.max(1, sequence.generated - before);
    if (prefilled.work.length === 0) this.#speculation.observe(sequence, draft, tokens, took.cycleMs);
    const work = stepWork(this.#router, decode, prefilled, [], took);
    return {
      ...work,
      predictedMs: work.predictedMs + (tokens - 1) * plainMs,
      kernelRuns: this.#executor.takeRuns(),
      draft: { source: draft.source, drafted: draft.tokens.length, accepted },
    };
  }

  /** Learns the time of a plain step of a sequence that decodes alone. */
  observePlain(sequence: Sequence, cycleMs: number): void {
    this.#speculation.observe(sequence, null, 1, cycleMs);
  }
}
