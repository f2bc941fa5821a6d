/**
 * Steps of a sequence that decodes alone: its draft runs through its exit, which verifies it.
 *
 * Must not know: admission, batches.
 */
import type { Executor } from '../execution/executor.js';
import type { SampledToken } from '../sampling/sample-batch.js';
import type { Sequence } from '../../scheduler/sequence.js';
import type { SlotManager } from '../../scheduler/slot-manager.js';
import { isCutAtDeadline } from '../../protocol/early-end.js';
import type { Landings } from './landings.js';
import { maySpeculate } from '../../scheduler/drafts/eligibility.js';
import { type Draft, Speculation } from '../speculation/speculation.js';
import type { Speculate } from '../../protocol/options.js';
import type { StepWork } from '../../protocol/index.js';
import type { Router } from '../../scheduler/router.js';
import { workTo } from '../../scheduler/chunks.js';
import { decodeWork } from './step-stats.js';
import { viewOf } from './views.js';

interface DraftingParts {
  readonly executor: Executor;
  readonly slotManager: SlotManager;
  readonly router: Router;
  readonly landings: Landings;
  readonly speculate: Speculate;
}

export class Drafting {
  readonly #parts: DraftingParts;
  readonly #speculation: Speculation;

  constructor(parts: DraftingParts) {
    this.#parts = parts;
    this.#speculation = new Speculation(parts.executor);
  }

  /** Drafts for a sequence that decodes alone; null without a draft worth its cost. A shallower exit drafts by runs. */
  draft(sequence: Sequence, now: number): Draft | null {
    const { executor, slotManager, router, landings, speculate } = this.#parts;
    const { request, generated, tokens, exit } = sequence;
    if (!maySpeculate(request, speculate)) return null;
    if (isCutAtDeadline(request)) {
      // Drafting and verification together take about two steps, and three at most.
      const decode = decodeWork([sequence], router.shape);
      const prefill = workTo(router, sequence, tokens.length);
      if (router.isOverdue(viewOf(sequence, router.shape), now, { decode, prefill })) return null;
    }
    const bytesAt = (ahead: number): number => executor.table.bytesAt(exit, tokens.length + 1 + ahead);
    let most = request.maxTokens - generated - 1;
    while (most > 0 && bytesAt(most) - bytesAt(0) > slotManager.freeBytes) most >>= 1;
    const draft = this.#speculation.draft(sequence, most, (tokens) => landings.mustEnd(sequence, tokens));
    if (draft !== null) landings.plan(sequence, draft.tokens);
    return draft;
  }

  /**
   * Emits the accepted tokens of a draft. The cost model learns nothing from it: plans count on plain steps.
   * @param work that of the step
   * @param take emits a token; false where its answer ends with it
   */
  commit(sequence: Sequence, draft: Draft, work: StepWork, take: (choice: SampledToken) => boolean): StepWork {
    const { router } = this.#parts;
    const plainMs = router.predictMs({ decode: decodeWork([sequence], router.shape), prefill: [] });
    const before = sequence.generated;
    const accepted = this.#speculation.verify(sequence, draft, take);
    const tokens = Math.max(1, sequence.generated - before);
    const isAlone = work.prefillTokens + work.catchUpTokens === 0;
    if (isAlone) this.#speculation.observe(sequence, draft, tokens, work.cycleMs);
    const counts = { source: draft.source, drafted: draft.tokens.length, accepted };
    return { ...work, predictedMs: work.predictedMs + (tokens - 1) * plainMs, draft: counts };
  }

  /** Learns the time of a plain step of a sequence that decodes alone. */
  observePlain(sequence: Sequence, cycleMs: number): void {
    this.#speculation.observe(sequence, null, 1, cycleMs);
  }
}
