/**
 * The engine without its process: requests in, one message per step out.
 *
 * A step is: end what was cancelled or is overdue; admit; re-plan depths; advance one chunk; decode the batch; sample.
 * Knows: slot manager, router, executor. Must not know: processes, HTTP, text ("purely token id sequences").
 */
import type { Policy } from '../../router/index.js';
import type { CostTable } from '../../cost/table.js';
import { depthShape } from '../../cost/model.js';
import { AdmissionQueue } from './admission-queue.js';
import { type PrefillTask, prefillTask, catchUpTasks } from '../execution/select-prefill.js';
import { type Constraint } from '../sampling/constraint.js';
import { type SampledToken, sampleBatch, isPlainGreedy } from '../sampling/sample-batch.js';
import type { Executor } from '../execution/executor.js';
import { folderPrior } from './length-prior.js';
import type {
  CancelReason,
  EndedEvent,
  EndReason,
  GenerateMessage,
  LoadSnapshot,
  RefusedEvent,
  StepMessage,
  StepWork,
} from '../protocol.js';
import { StepOutput } from './step-output.js';
import { compact } from '../slots/compaction.js';
import { RouterAdapter, type StepContext } from './router-adapter.js';
import { scorePrompt } from '../sampling/prompt-scores.js';
import { SlotManager, type SlotManagerLimits } from '../slots/slot-manager.js';
import type { Sequence } from '../sequence.js';
import type { Speculate } from '../client/options.js';
import { maySpeculate } from '../speculation/eligibility.js';
import { type Draft, Speculation } from '../speculation/speculation.js';
import { type AdvanceTotals, decodeWork, stepWork } from './step-stats.js';

export interface CoreOptions extends SlotManagerLimits {
  readonly policy: Policy;
  /** How many times slower than the costs the machine is at start; 1 where absent. */
  readonly slowdown?: number;
  /** Most positions of one prefill or catch-up chunk. */
  readonly prefillChunk: number;
  readonly speculate: Speculate;
  readonly clock: () => number;
}

export class EngineCore {
  readonly slotManager: SlotManager;
  /** Why the model folder's prior of output lengths is not used; null where it is. */
  readonly lengthPriorFault: string | null;
  readonly #router: RouterAdapter;
  readonly #output = new StepOutput();
  readonly #speculation: Speculation;
  readonly #admissions: AdmissionQueue;
  /** When the step before ended; null after a rest. */
  #stepEndedAt: number | null = null;

  constructor(
    private readonly executor: Executor,
    costs: CostTable,
    private readonly options: CoreOptions,
  ) {
    this.slotManager = new SlotManager(executor.table, options);
    const { manifest } = executor.model;
    const { prior, fault } = folderPrior(manifest);
    this.lengthPriorFault = fault;
    this.#router = new RouterAdapter(depthShape(manifest), costs, options.policy, prior, options.slowdown);
    this.#speculation = new Speculation(executor);
    this.#admissions = new AdmissionQueue(executor, this.slotManager, this.#router, this.#output);
  }

  /** Whether `step` has anything to do or to tell. */
  get busy(): boolean {
    const { running, waiting } = this.slotManager;
    return running.length + waiting.length + this.#admissions.count > 0 || this.#output.hasNews;
  }

  /** Whether a sequence can't go on for want of a mask. */
  get awaitsMasks(): boolean {
    return this.slotManager.running.some(({ awaitsMask }) => awaitsMask);
  }

  /** Whether `step` has nothing to do before a mask comes. */
  get isStalled(): boolean {
    const { running, waiting } = this.slotManager;
    const othersWait = waiting.length + this.#admissions.count > 0 || this.#output.hasNews;
    return !othersWait && running.length > 0 && running.every(({ awaitsMask }) => awaitsMask);
  }

  /**
   * Takes a request; the next step accepts or refuses it, and its message says which.
   * @param elsewhere requests that wait before they are submitted and have places in the queue; null for one of those
   */
  submit(request: GenerateMessage, constraint: Constraint | null = null, elsewhere: number | null = 0): void {
    this.#admissions.submit(request, constraint, elsewhere);
  }

  /** Refuses a request that was never submitted. */
  refuse(event: Omit<RefusedEvent, 'leastFeasibleMs'>): void {
    this.#admissions.refuse(event);
  }

  /** Refuses a request whose budget was over before it was submitted. */
  refuseLate(request: GenerateMessage): void {
    this.#admissions.refuseLate(request, this.#context(this.options.clock()));
  }

  /** Ends a request that was never submitted. */
  abandon(request: GenerateMessage, reason: CancelReason): void {
    this.#admissions.abandon(request, reason, this.options.clock());
  }

  /** Whether the queue has no place left. @param elsewhere requests that wait before they are submitted */
  isFull(elsewhere: number): boolean {
    return this.#admissions.isFull(elsewhere);
  }

  /** Ends a sequence at the next step. Unknown ids are ignored: the answer may just have ended. */
  cancel(id: string, reason: CancelReason = 'cancelled'): void {
    const sequence = this.slotManager.find(id) ?? this.#admissions.find(id);
    if (sequence) sequence.ending = reason;
  }

  /** Tells that no step follows the last one for now: the time until the next one is none of a step's. */
  rest(): void {
    this.#stepEndedAt = null;
  }

  /** Does one step and tells what happened. */
  step(): StepMessage {
    const { clock } = this.options;
    const startedAt = clock();
    this.#admissions.admit(this.#context(startedAt));
    this.#endDue(startedAt);
    this.slotManager.reorder(this.#router.order(this.#context(startedAt)));
    this.slotManager.start(startedAt);
    this.slotManager.syncFollowers(() => clock() - startedAt < this.options.policy.maxStallMs);
    const paused = this.#replan(startedAt);
    this.slotManager.makeRoom();
    const { running } = this.slotManager;

    const advances = this.#advances(startedAt, paused);
    this.#endOverdue(
      running.filter((each) => this.#mayDecode(each, paused) && this.#isDecodableAfter(each, advances)),
      advances,
      startedAt,
    );
    // Decode rows after the chunk: a prompt that it completes joins this very batch.
    const advanced = this.#advance(advances.filter(({ sequence }) => sequence.slot !== null));
    const ready = (each: Sequence): boolean =>
      this.#mayDecode(each, paused) && each.isDecodable(this.executor.exit(each.exit).needed);
    // The chunk may have taken longer than it should have.
    if (advances.length > 0) this.#endOverdue(running.filter(ready), [], clock());
    const rows = running.filter(ready);
    const [lone] = rows;
    const draft = lone && rows.length === 1 ? this.#draft(lone) : null;
    const stageRows = rows.length > 0 && draft === null ? this.#decode(rows) : [];
    const at = clock();
    // Plans count on the whole cycle: what lies between two steps (sampling, messages, admission) takes time as well.
    const ms = at - startedAt;
    const cycleMs = at - (this.#stepEndedAt ?? startedAt);
    const work =
      lone && draft !== null
        ? this.#verify(lone, draft, advanced, { at, ms, cycleMs })
        : this.#learn(advanced, rows, stageRows, ms, cycleMs);
    if (draft === null) {
      if (lone && rows.length === 1 && advanced.work.length === 0) this.#speculation.observe(lone, null, 1, cycleMs);
      this.#emit(rows, at);
    }
    this.#endScored(at);
    const message = this.#output.take(at, this.#load(), work);
    this.#stepEndedAt = this.busy ? at : null;
    return message;
  }

  #endDue(now: number): void {
    for (const sequence of [...this.slotManager.running, ...this.slotManager.waiting]) {
      if (sequence.ending) this.#end(sequence, sequence.ending, now);
      else if (sequence.constraint?.failed != null) this.#end(sequence, 'error', now);
      else if (sequence.constraint?.complete === true) this.#end(sequence, 'stop', now);
    }
  }

  #mayDecode(sequence: Sequence, paused: ReadonlySet<string>): boolean {
    return !paused.has(sequence.id) && sequence.request.maxTokens > 0 && !sequence.awaitsMask;
  }

  /** Whether a sequence joins the rows of a step that makes these advances first. */
  #isDecodableAfter(sequence: Sequence, advances: readonly PrefillTask[]): boolean {
    const last = sequence.tokens.length - 1;
    if (sequence.isDecodable(this.executor.exit(sequence.exit).needed)) return true;
    return advances.some((each) => each.sequence === sequence && each.end >= last);
  }

  /** Ends whose deadline falls into the step that is about to run, before it runs. */
  #endOverdue(rows: readonly Sequence[], advances: readonly PrefillTask[], now: number): void {
    const all = [...this.slotManager.running, ...this.slotManager.waiting];
    if (!all.some(({ request }) => request.depth.budget?.onMiss === 'truncate')) return;
    const work = { decode: decodeWork(rows, this.#router.shape), prefill: advances.flatMap((each) => each.work) };
    for (const sequence of all) if (this.#router.isOverdue(sequence, now, work)) this.#end(sequence, 'deadline', now);
  }

  #replan(now: number): ReadonlySet<string> {
    const plan = this.#router.planStep(this.#context(now));
    for (const { id, exit } of plan.exits) {
      const sequence = this.slotManager.find(id);
      if (sequence !== undefined) sequence.exit = this.executor.model.exitIndex(exit);
    }
    return new Set(plan.paused);
  }

  /** Who advances in this step: all who must catch up, since their plans count on it; else the prompt that the router names. */
  #advances(now: number, paused: ReadonlySet<string>): PrefillTask[] {
    const { running } = this.slotManager;
    const { prefillChunk, policy } = this.options;
    const catchUps = catchUpTasks(running, this.executor, this.#router, prefillChunk, policy.maxStallMs);
    if (catchUps.length > 0) return catchUps;
    if (running.every((each) => each.isDecodable(this.executor.exit(each.exit).needed))) return [];
    const chunk = this.#router.choosePrefill(this.#context(now), paused);
    const sequence = running.find(({ id }) => id === chunk?.id);
    if (sequence === undefined || chunk === null) return [];
    // Whoever goes on takes along what another prompt has done of its own.
    this.slotManager.share(sequence);
    return [prefillTask(sequence, Math.min(chunk.positions, prefillChunk), this.executor, this.#router)];
  }

  #advance(advances: readonly PrefillTask[]): AdvanceTotals {
    let prefilled = 0;
    let caughtUp = 0;
    for (const { sequence, end } of advances) {
      if (!sequence.slot) continue;
      const done = this.executor.advance(sequence.slot, sequence.exit, end);
      scorePrompt(this.executor, sequence, done.output, this.#output.prompts);
      prefilled += done.prefilled;
      caughtUp += done.caughtUp;
    }
    return { work: advances.flatMap(({ work }) => work), prefilled, caughtUp };
  }

  #decode(rows: Sequence[]): number[] {
    compact(this.executor, rows);
    rows.sort((a, b) => Number(isPlainGreedy(b)) - Number(isPlainGreedy(a)));
    return this.executor.decode(
      rows.flatMap(({ slot, exit }) => (slot ? { slot, exit: this.executor.exit(exit) } : [])),
    );
  }

  /** A draft for the only sequence that decodes, run and not yet verified; null where none is worth it. */
  #draft(sequence: Sequence): Draft | null {
    const { request, generated, tokens, exit } = sequence;
    if (!maySpeculate(request, this.options.speculate)) return null;
    if (request.depth.budget?.onMiss === 'truncate') {
      // A round takes no longer than two steps.
      const decode = decodeWork([sequence], this.#router.shape);
      const twoSteps = { decode, prefill: this.#router.advanceWork(sequence, tokens.length) };
      if (this.#router.isOverdue(sequence, this.options.clock(), twoSteps)) return null;
    }
    const { table } = this.executor;
    const bytes = table.bytesAt(exit, tokens.length + 1);
    let most = request.maxTokens - generated - 1;
    while (most > 0 && table.bytesAt(exit, tokens.length + 1 + most) - bytes > this.slotManager.freeBytes) most >>= 1;
    const draft = this.#speculation.draft(sequence, most);
    if (draft !== null) this.#speculation.run(sequence, draft);
    return draft;
  }

  /** Emits what a draft brought. The cost model learns nothing from it: plans count on plain steps. */
  #verify(
    sequence: Sequence,
    draft: Draft,
    advanced: AdvanceTotals,
    { at, ms, cycleMs }: { at: number; ms: number; cycleMs: number },
  ): StepWork {
    const decode = decodeWork([sequence], this.#router.shape);
    const plainMs = this.#router.predictMs({ decode, prefill: [] });
    const before = sequence.generated;
    const accepted = this.#speculation.verify(sequence, draft, (choice) => this.#take(sequence, choice, at));
    const tokens = Math.max(1, sequence.generated - before);
    if (advanced.work.length === 0) this.#speculation.observe(sequence, draft, tokens, cycleMs);
    const work = stepWork(this.#router, decode, advanced, [], { ms, cycleMs });
    return {
      ...work,
      predictedMs: work.predictedMs + (tokens - 1) * plainMs,
      kernelRuns: this.executor.takeRuns(),
      draft: { source: draft.source, drafted: draft.tokens.length, accepted },
    };
  }

  #emit(rows: readonly Sequence[], at: number): void {
    const chosen = sampleBatch(this.executor.head, rows);
    rows.forEach((sequence, row) => {
      const choice = chosen[row];
      if (choice) this.#take(sequence, choice, at);
    });
  }

  /** Gives a sequence its next token. @returns false where its answer ends with it */
  #take(sequence: Sequence, { token, logprobs }: SampledToken, at: number): boolean {
    const before = sequence.generated;
    const reason = sequence.accept(token, at);
    if (sequence.generated > before)
      this.#output.tokens.push({
        id: sequence.id,
        token,
        exit: this.executor.exit(sequence.exit).layer,
        logprobs,
      });
    const endToken = sequence.generated === before && logprobs !== null ? { token, logprobs } : null;
    if (reason) this.#end(sequence, reason, at, endToken);
    return reason === null;
  }

  /** Ends requests that only wanted their prompt scored. */
  #endScored(at: number): void {
    for (const sequence of [...this.slotManager.running])
      if (sequence.request.maxTokens === 0 && sequence.isDecodable(this.executor.exit(sequence.exit).needed))
        this.#end(sequence, 'length', at);
  }

  #end(sequence: Sequence, reason: EndReason, at: number, endToken: EndedEvent['endToken'] | null = null): void {
    this.slotManager.finish(sequence);
    sequence.constraint?.close();
    const failure = reason === 'error' ? sequence.constraint?.failed : null;
    const isWhole = reason === 'stop' || reason === 'length';
    if (reason !== 'error') {
      this.#router.observeEnd(sequence, at, isWhole ? 'ended' : reason === 'deadline' ? 'deadline' : 'cancelled');
    }
    this.#output.ended.push({
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
      ...(sequence.drafts.length > 0 && { drafts: [...sequence.drafts] }),
    });
  }

  #learn(
    advanced: AdvanceTotals,
    rows: readonly Sequence[],
    stageRows: readonly number[],
    ms: number,
    cycleMs: number,
  ): StepWork | null {
    if (advanced.work.length === 0 && rows.length === 0) return null;
    const decode = decodeWork(rows, this.#router.shape);
    const work = stepWork(this.#router, decode, advanced, stageRows, { ms, cycleMs });
    const waited = this.slotManager.running.length + this.slotManager.waiting.length > 1;
    this.#router.observeStep({ decode, prefill: advanced.work }, cycleMs, waited);
    return { ...work, kernelRuns: this.executor.takeRuns(), slowdown: this.#router.slowdown };
  }

  #context(now: number): StepContext {
    const { running, waiting } = this.slotManager;
    return { slots: this.options.maxRunning, live: running, waiting, now };
  }

  #load(): LoadSnapshot {
    const { running, waiting } = this.slotManager;
    const { kvBytes } = this.options;
    return {
      running: running.length,
      waiting: waiting.length,
      kvUsed: this.executor.table.used('live') / kvBytes,
      kvCached: this.executor.table.used('cached') / kvBytes,
    };
  }
}
