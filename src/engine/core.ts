/**
 * The engine without its process: requests in, one message per step out.
 *
 * A step is: end what was cancelled or is overdue; admit; re-plan depths; advance one chunk; decode the batch; sample.
 * Knows: scheduler, planning, executor. Must not know: processes, HTTP, text ("purely token id sequences").
 */
import type { Policy, Work } from '../router/planner.js';
import type { CostTable } from '../router/cost.js';
import { depthShape } from '../router/planner.js';
import { type Advance, advanceOf, catchUpsOf } from './advances.js';
import { arrange } from './arrange.js';
import { type Constraint } from './constraint.js';
import { chooseTokens, isPlainGreedy } from './choose.js';
import type { Executor } from './executor.js';
import { exitTimes } from './exit-times.js';
import type {
  CancelReason,
  EndedEvent,
  EndReason,
  GenerateMessage,
  LoadSnapshot,
  RefusedEvent,
  StepMessage,
  StepWork,
} from './messages.js';
import { Outbox } from './outbox.js';
import { Planning } from './planning.js';
import { scorePrompt } from './prompt-scores.js';
import { Scheduler, type SchedulerLimits } from './scheduler.js';
import { Sequence } from './sequence.js';

export interface CoreOptions extends SchedulerLimits {
  readonly policy: Policy;
  /** Most positions of one prefill or catch-up chunk. */
  readonly prefillChunk: number;
  readonly clock: () => number;
}

/** Steps over which exchanging slots must pay for itself: a typical answer has more left. */
const ARRANGE_HORIZON = 32;
/**
 * Bytes per millisecond that slots move with (6 GB/s measured, 1 GB/s into pages that were never touched), and what a
 * row too many costs in a layer of the embedded model (0.018 ms with w8a8, 0.04 with int4, 2 cores).
 */
const MOVE_BYTES_PER_MS = 4e6;
const WASTED_ROW_LAYER_MS = 0.02;

export class EngineCore {
  readonly scheduler: Scheduler;
  readonly #planning: Planning;
  readonly #outbox = new Outbox();
  /** When the step before ended; null after a rest. */
  #stepEndedAt: number | null = null;

  constructor(
    private readonly executor: Executor,
    costs: CostTable,
    private readonly options: CoreOptions,
  ) {
    this.scheduler = new Scheduler(executor.table, options);
    this.#planning = new Planning(depthShape(executor.model.manifest), costs, options.policy);
  }

  /** Whether `step` has anything to do or to tell. */
  get busy(): boolean {
    return this.scheduler.running.length + this.scheduler.waiting.length > 0 || this.#outbox.refused.length > 0;
  }

  /** Whether a sequence can't go on for want of a mask. */
  get awaitsMasks(): boolean {
    return this.scheduler.running.some(({ awaitsMask }) => awaitsMask);
  }

  /** Whether `step` has nothing to do before a mask comes. */
  get isStalled(): boolean {
    const { running, waiting } = this.scheduler;
    const othersWait = waiting.length > 0 || this.#outbox.refused.length > 0;
    return !othersWait && running.length > 0 && running.every(({ awaitsMask }) => awaitsMask);
  }

  /** Accepts or refuses a request; the next step's message says which. */
  submit(request: GenerateMessage, constraint: Constraint | null = null): void {
    const { id, prompt, maxTokens, depth } = request;
    const refuse = (reason: 'queue_full' | 'budget_infeasible' | 'too_long', leastFeasibleMs: number | null): void => {
      constraint?.close();
      this.#outbox.refused.push({ id, reason, leastFeasibleMs });
    };
    if (prompt.length === 0 || prompt.length + maxTokens > this.executor.model.limits.capacity) {
      refuse('too_long', null);
      return;
    }
    const sequence = new Sequence(request, this.executor.model.exitIndex(depth.maxExit), constraint);
    const { running, waiting } = this.scheduler;
    const admission = this.#planning.admit(sequence, running, waiting, this.#room(), this.options.clock());
    if (admission.kind === 'refuse') {
      refuse('budget_infeasible', admission.leastFeasibleMs);
      return;
    }
    sequence.exit = this.executor.model.exitIndex(admission.exit);
    sequence.admission = admission;
    if (!this.scheduler.enqueue(sequence)) {
      refuse('queue_full', null);
      return;
    }
    this.#outbox.planned.push({
      id,
      exit: admission.exit,
      predictedTtftMs: admission.prediction.ttftMs,
      predictedTpotMs: admission.prediction.tpotMs,
      predictedMs: admission.prediction.totalMs,
      feasible: admission.feasible,
    });
    if (request.promptLogprobs !== null) this.#outbox.prompts.push({ id, logprobs: [null] });
  }

  /** Refuses a request that was never submitted. */
  refuse(event: Omit<RefusedEvent, 'leastFeasibleMs'>): void {
    this.#outbox.refused.push({ leastFeasibleMs: null, ...event });
  }

  /** Whether the queue has no place left. @param elsewhere requests that wait before they are submitted */
  isFull(elsewhere: number): boolean {
    return this.scheduler.isFull(elsewhere);
  }

  /** Ends a sequence at the next step. Unknown ids are ignored: the answer may just have ended. */
  cancel(id: string, reason: CancelReason = 'cancelled'): void {
    const sequence = this.scheduler.find(id);
    if (sequence) sequence.ending = reason;
  }

  /** Does one step and tells what happened. */
  step(): StepMessage {
    const { clock } = this.options;
    const startedAt = clock();
    this.#endDue(startedAt);
    this.scheduler.reorder(this.#planning.order(this.scheduler.waiting, startedAt));
    this.scheduler.start(startedAt);
    const paused = this.#replan(startedAt);
    this.scheduler.makeRoom();
    const { running } = this.scheduler;

    const advances = this.#advances(startedAt, paused);
    this.#endOverdue(
      this.scheduler.running.filter((each) => this.#mayDecode(each, paused)),
      advances,
      startedAt,
    );
    // Decode rows after the chunk: a prompt that it completes joins this very batch.
    const prefill = this.#advance(advances.filter(({ sequence }) => sequence.slot !== null));
    const ready = (each: Sequence): boolean =>
      this.#mayDecode(each, paused) && each.isDecodable(this.executor.exit(each.exit).needed);
    // The chunk may have taken longer than it should have.
    if (advances.length > 0) this.#endOverdue(running.filter(ready), [], clock());
    const rows = running.filter(ready);
    const stageRows = rows.length > 0 ? this.#decode(rows) : [];
    const at = clock();
    // Plans count on the whole cycle: what lies between two steps (sampling, messages, admission) takes time as well.
    const work = this.#learn(prefill, rows, stageRows, at - startedAt, at - (this.#stepEndedAt ?? startedAt));
    if (rows.length > 0) this.#emit(rows, at);
    this.#endScored(at);
    this.#stepEndedAt = this.busy ? at : null;
    return this.#outbox.take(at, this.#load(), work);
  }

  #endDue(now: number): void {
    for (const sequence of [...this.scheduler.running, ...this.scheduler.waiting]) {
      if (sequence.ending) this.#end(sequence, sequence.ending, now);
      else if (sequence.constraint?.failed != null) this.#end(sequence, 'error', now);
      else if (sequence.constraint?.ends === true) this.#end(sequence, 'stop', now);
    }
  }

  #mayDecode(sequence: Sequence, paused: ReadonlySet<string>): boolean {
    return !paused.has(sequence.id) && sequence.request.maxTokens > 0 && !sequence.awaitsMask;
  }

  /** Ends whose deadline falls into the step that is about to run, before it runs. */
  #endOverdue(rows: readonly Sequence[], advances: readonly Advance[], now: number): void {
    const all = [...this.scheduler.running, ...this.scheduler.waiting];
    if (!all.some(({ request }) => request.depth.budget?.onMiss === 'truncate')) return;
    const work = { decode: this.#decodeWork(rows), prefill: advances.flatMap((each) => each.work) };
    for (const sequence of all) if (this.#planning.isOverdue(sequence, now, work)) this.#end(sequence, 'deadline', now);
  }

  #decodeWork(rows: readonly Sequence[]): Work['decode'] {
    if (rows.length === 0) return null;
    const byExit = this.#planning.shape.exits.map((_, exit) => rows.filter((row) => row.exit === exit).length);
    return { rows: byExit, context: rows.reduce((sum, { tokens }) => sum + tokens.length, 0) / rows.length };
  }

  #replan(now: number): ReadonlySet<string> {
    const { running, waiting } = this.scheduler;
    const plan = this.#planning.replan(running, waiting, this.#room(), now);
    for (const { id, exit } of plan.exits) this.scheduler.find(id)?.changeExit(this.executor.model.exitIndex(exit));
    return new Set(plan.paused);
  }

  /** Who advances in this step: all who must catch up, since their plans count on it; else the prompt that the router names. */
  #advances(now: number, paused: ReadonlySet<string>): Advance[] {
    const { running, waiting } = this.scheduler;
    const { prefillChunk, policy } = this.options;
    const catchUps = catchUpsOf(running, this.executor, this.#planning, prefillChunk, policy.maxStallMs);
    if (catchUps.length > 0) return catchUps;
    if (running.every((each) => each.isDecodable(this.executor.exit(each.exit).needed))) return [];
    const chunk = this.#planning.chunk(running, waiting, this.#room(), now, paused);
    const sequence = running.find(({ id }) => id === chunk?.id);
    if (sequence === undefined || chunk === null) return [];
    return [advanceOf(sequence, Math.min(chunk.positions, prefillChunk), this.executor, this.#planning)];
  }

  #advance(advances: readonly Advance[]): { work: Work['prefill']; prefilled: number; caughtUp: number } {
    let prefilled = 0;
    let caughtUp = 0;
    for (const { sequence, end } of advances) {
      if (!sequence.slot) continue;
      const done = this.executor.advance(sequence.slot, sequence.exit, end);
      scorePrompt(this.executor, sequence, done.output, this.#outbox.prompts);
      prefilled += done.prefilled;
      caughtUp += done.caughtUp;
    }
    return { work: advances.flatMap(({ work }) => work), prefilled, caughtUp };
  }

  #decode(rows: Sequence[]): number[] {
    this.#arrange(rows);
    rows.sort((a, b) => Number(isPlainGreedy(b)) - Number(isPlainGreedy(a)));
    return this.executor.decode(
      rows.flatMap(({ slot, exit }) => (slot ? { slot, exit: this.executor.exit(exit) } : [])),
    );
  }

  /** Exchanges slots where the rows that the batch would compute for nobody cost more than the exchange. */
  #arrange(rows: readonly Sequence[]): void {
    const { table, units } = this.executor;
    const placed = rows.flatMap(({ slot, exit }) =>
      slot ? { index: slot.index, stage: this.executor.exit(exit).stage } : [],
    );
    const { swaps, waste } = arrange(placed, units.trunk);
    if (swaps.length === 0) return;
    const wastedLayers = waste.reduce((sum, count, stage) => sum + count * (units.stages[stage]?.entry.layers ?? 0), 0);
    const bytes = swaps.reduce((sum, [a, b]) => sum + table.swapBytes(table.at(a), table.at(b)), 0);
    if (bytes / MOVE_BYTES_PER_MS > wastedLayers * WASTED_ROW_LAYER_MS * ARRANGE_HORIZON) return;
    for (const [a, b] of swaps) table.swap(table.at(a), table.at(b));
  }

  #emit(rows: readonly Sequence[], at: number): void {
    const chosen = chooseTokens(this.executor.head, rows);
    rows.forEach((sequence, row) => {
      const choice = chosen[row];
      if (!choice) return;
      const before = sequence.generated;
      const reason = sequence.accept(choice.token, at);
      if (sequence.generated > before)
        this.#outbox.tokens.push({
          id: sequence.id,
          token: choice.token,
          exit: this.executor.exit(sequence.exit).layer,
          logprobs: choice.logprobs,
        });
      const { token, logprobs } = choice;
      const endToken = sequence.generated === before && logprobs !== null ? { token, logprobs } : null;
      if (reason) this.#end(sequence, reason, at, endToken);
    });
  }

  /** Ends requests that only wanted their prompt scored. */
  #endScored(at: number): void {
    for (const sequence of [...this.scheduler.running])
      if (sequence.request.maxTokens === 0 && sequence.isDecodable(this.executor.exit(sequence.exit).needed))
        this.#end(sequence, 'length', at);
  }

  #end(sequence: Sequence, reason: EndReason, at: number, endToken: EndedEvent['endToken'] | null = null): void {
    this.scheduler.finish(sequence);
    sequence.constraint?.close();
    const failure = reason === 'error' ? sequence.constraint?.failed : null;
    const whole = reason === 'stop' || reason === 'length';
    if (whole || reason === 'deadline') this.#planning.answerDone(sequence, at, whole);
    this.#outbox.ended.push({
      id: sequence.id,
      reason,
      error: failure?.message ?? null,
      ...(failure?.isLost === true && { isLost: true }),
      promptTokens: sequence.promptLength,
      cachedTokens: sequence.cachedTokens,
      startedAt: sequence.startedAt,
      firstTokenAt: sequence.firstTokenAt,
      endedAt: at,
      preemptions: sequence.preemptions,
      ...(endToken && { endToken }),
    });
  }

  #learn(
    prefill: { work: Work['prefill']; prefilled: number; caughtUp: number },
    rows: readonly Sequence[],
    stageRows: readonly number[],
    ms: number,
    cycleMs: number,
  ): StepWork | null {
    if (prefill.work.length === 0 && rows.length === 0) return null;
    const work: Work = { decode: this.#decodeWork(rows), prefill: prefill.work };
    const predictedMs = this.#planning.predictMs(work);
    this.#planning.stepDone(work, cycleMs);
    return {
      ms,
      predictedMs,
      stageRows,
      prefillTokens: prefill.prefilled,
      catchUpTokens: prefill.caughtUp,
      exitMs: exitTimes(this.#planning.shape, work, (part) => this.#planning.predictMs(part), ms),
      kernelRuns: this.executor.takeRuns(),
      slowdown: this.#planning.slowdown,
    };
  }

  #room(): { slots: number; kvRoom: number } {
    return {
      slots: this.options.maxRunning,
      kvRoom: Math.floor(this.scheduler.freeBytes / this.executor.model.bytesPerPosition),
    };
  }

  #load(): LoadSnapshot {
    const { running, waiting } = this.scheduler;
    const { kvBytes } = this.options;
    return {
      running: running.length,
      waiting: waiting.length,
      kvUsed: this.executor.table.used('live') / kvBytes,
      kvCached: this.executor.table.used('cached') / kvBytes,
    };
  }
}
