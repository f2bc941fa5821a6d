/**
 * Builds the plan of a step: its chunks, the rows that decode behind them, and the draft of a row that is alone.
 *
 * The decisions of a plan so far: requests that are admitted, rejected, or end before the step. Must not know: why.
 *
 * Must not know: admission, how a plan runs.
 */
import { cutAt, isCutAtDeadline, earlyEnd } from '../../protocol/outcome.js';
import { type ChunkWork, workTo, decodeWork, workOf } from './chunks.js';
import { type Drafts, maySpeculate } from './drafts/drafts.js';
import type { Planner } from './planner.js';
import type { Sequence } from './sequence.js';
import type { SlotManager } from './slot-manager.js';
import type { ChunkPlan, DraftPlan, RowPlan, StepPlan, SequenceEnd } from './step-plan.js';
import type { Admitted, ArmedEvent, PlannedEvent, RejectedEvent } from '../../protocol/index.js';
import type { Armed, Planned, Rejected } from './types.js';

export class PlanBuilder {
  constructor(
    private readonly slots: SlotManager,
    private readonly planner: Planner,
    private readonly drafts: Drafts,
  ) {}

  /** The sequences that decode behind these chunks. */
  decoding(chunks: readonly ChunkWork[], paused: ReadonlySet<Sequence>): Sequence[] {
    const completed = new Set<Sequence>();
    for (const { sequence, end } of chunks) if (end >= sequence.tokens.length - 1) completed.add(sequence);
    return this.slots.running.filter((each) => {
      if (paused.has(each) || each.maxTokens === 0 || each.awaitsMask) return false;
      return completed.has(each) || each.isDecodable;
    });
  }

  /** @param record the decisions that come before the step's work */
  build(record: PlanRecord, chunks: readonly ChunkWork[], paused: ReadonlySet<Sequence>): StepPlan {
    const { planner, slots } = this;
    const rows = this.decoding(chunks, paused);
    const work = workOf(chunks, rows, planner.model.shape);
    const decodesAt = record.at + (chunks.length === 0 ? 0 : planner.predictMs({ ...work, decode: null }));
    const [lone] = rows;
    const draft = lone !== undefined && rows.length === 1 ? this.#draft(lone, decodesAt) : null;
    if (draft === null) slots.placement.closeGap(slots.running);
    this.#reserve(chunks, rows);
    const { at, admitted, armed, rejected, ended } = record;
    return {
      at,
      admitted,
      ...(armed.length > 0 && { armed }),
      rejected,
      ended,
      memory: slots.table.takeOps(),
      chunks: chunks.map(chunkPlan),
      rows: rows.map((each): RowPlan => {
        return { id: each.id, slot: slotIndex(each), exit: each.exit, window: planner.landing(each) };
      }),
      draft,
      work,
      predictedMs: planner.predictMs(work),
      landing: { decodesAt, tokenMs: planner.tokenMs },
    };
  }

  /** Takes the memory that the step will write. */
  #reserve(chunks: readonly ChunkWork[], rows: readonly Sequence[]): void {
    const { table } = this.slots;
    for (const { sequence, end } of chunks) if (sequence.slot !== null) table.reserve(sequence.slot, end);
    for (const { slot } of rows) if (slot !== null) table.reserve(slot, slot.tokens.length);
  }

  /** Drafts for a sequence that decodes alone; null without a draft worth its cost. */
  #draft(sequence: Sequence, now: number): DraftPlan | null {
    const { drafts, planner, slots } = this;
    const { maxTokens, generated, tokens, request } = sequence;
    if (!maySpeculate(request, drafts.limits.speculate)) return null;
    if (isCutAtDeadline(request)) {
      // Drafting and verification together take about two steps, and three at most.
      const decode = decodeWork([sequence], planner.model.shape);
      const prefill = workTo(sequence, tokens.length, planner.model);
      if (cutAt(sequence) < planner.endsAt(now, { decode, prefill })) return null;
    }
    const bytesAt = (ahead: number): number => slots.table.bytesOf(tokens.length + 1 + ahead);
    let most = maxTokens - generated - 1;
    while (most > 0 && bytesAt(most) - bytesAt(0) > slots.freeBytes()) most >>= 1;
    return drafts.plan(sequence, most);
  }
}

function chunkPlan({ sequence, end, positions, prefilled }: ChunkWork): ChunkPlan {
  return { id: sequence.id, slot: slotIndex(sequence), exit: sequence.exit, end, positions, prefilled };
}

/** @throws Error for a sequence without a slot, which is a bug of the scheduler */
function slotIndex({ id, slot }: Sequence): number {
  if (slot === null) throw new Error(`sequence ${id} has no slot`);
  return slot.index;
}

const UNNAMED: Omit<Rejected, 'kind'> = { leastFeasibleMs: null };

export class PlanRecord {
  readonly admitted: PlannedEvent[] = [];
  readonly armed: ArmedEvent[] = [];
  readonly rejected: RejectedEvent[] = [];
  readonly ended: SequenceEnd[] = [];

  /** @param at time of the plan */
  constructor(readonly at: number) {}

  /** Whether a request came or went. */
  get hasNews(): boolean {
    return this.admitted.length + this.armed.length + this.rejected.length + this.ended.length > 0;
  }

  admit({ id, request, isDryRun }: Sequence, admission: Planned): void {
    const plan: Omit<Admitted, 'kind'> & { guaranteedTokens?: number } = { ...admission };
    delete plan.guaranteedTokens;
    this.admitted.push({
      ...plan,
      id,
      landing: earlyEnd(request),
      ...(isDryRun && { isDryRun }),
    });
    if (isDryRun) this.ended.push({ id, reason: 'length', isDryRun });
  }

  arm({ id }: Sequence, { latestStart }: Armed): void {
    this.armed.push({ id, latestStart });
  }

  reject({ id }: Sequence, { leastFeasibleMs, isFull = false }: Omit<Rejected, 'kind'> = UNNAMED): void {
    this.rejected.push({ id, reason: isFull ? 'queue_full' : 'budget_infeasible', leastFeasibleMs });
  }
}
