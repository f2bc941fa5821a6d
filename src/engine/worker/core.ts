/**
 * The engine without its process: requests come in, each step returns one message.
 *
 * A step schedules (admission, deadlines, slots, exits, prefill), executes (prefill, then decode or a draft) and commits
 * (cost model, sampling, ends, message). It knows token ids, never text, HTTP or processes.
 */
import type { Policy } from '../../router/index.js';
import type { CostTable } from '../../cost/table.js';
import { depthShape, type Work } from '../../cost/model.js';
import { Auditor, skipped } from '../audit/auditor.js';
import { AdmissionQueue } from './admission-queue.js';
import { type PrefillTask, prefillTask, catchUpTasks } from '../execution/select-prefill.js';
import { type Constraint } from '../sampling/constraint.js';
import { type SampledToken, sampleBatch, isPlainGreedy, prepareBatch } from '../sampling/sample-batch.js';
import type { Executor } from '../execution/executor.js';
import { folderPrior } from './length-prior.js';
import type {
  AuditEvent,
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
import type { AuditOptions, Speculate } from '../client/options.js';
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
  /** Absent: no audits. The slots then include one for audits. */
  readonly audit?: AuditOptions | undefined;
  /** Whether messages hold the predicted wait of a new request. */
  readonly reportsWait?: boolean;
  readonly clock: () => number;
}

/** Interval at which the predicted wait is computed anew, ms: it takes about as long as planning a step. */
const WAIT_INTERVAL_MS = 50;

/** The decisions of a step. */
interface Schedule {
  readonly startedAt: number;
  /** Ids of the sequences that skip the decode step. */
  readonly paused: ReadonlySet<string>;
  readonly prefill: readonly PrefillTask[];
}

/** The work of a step, with logits that are not sampled yet. */
interface StepRun {
  readonly at: number;
  readonly took: { readonly ms: number; readonly cycleMs: number };
  readonly prefilled: AdvanceTotals;
  /** Sequences that decoded, in the order of the head's rows. */
  readonly rows: readonly Sequence[];
  /** The draft of the only row; null for a plain decode step. */
  readonly draft: Draft | null;
  readonly stageRows: readonly number[];
}

export class EngineCore {
  readonly slotManager: SlotManager;
  /** Why the model folder's prior of output lengths is not used; null where it is. */
  readonly lengthPriorFault: string | null;
  readonly #executor: Executor;
  readonly #options: CoreOptions;
  readonly #router: RouterAdapter;
  readonly #output = new StepOutput();
  readonly #speculation: Speculation;
  readonly #admissions: AdmissionQueue;
  /** Null without audits: clients that wait for one get a reason. */
  readonly #auditor: Auditor | null;
  readonly #unaudited: AuditEvent[] = [];
  /** End of the previous step; null while the loop is idle. */
  #stepEndedAt: number | null = null;
  /** The predicted wait of a new request, and when it was computed. */
  #wait = { ms: 0, at: -Infinity };

  constructor(executor: Executor, costs: CostTable, options: CoreOptions) {
    this.#executor = executor;
    this.#options = options;
    this.slotManager = new SlotManager(executor.table, options);
    const { manifest } = executor.model;
    const { prior, fault } = folderPrior(manifest);
    this.lengthPriorFault = fault;
    this.#router = new RouterAdapter(depthShape(manifest), costs, options.policy, prior, options.slowdown);
    this.#speculation = new Speculation(executor);
    this.#admissions = new AdmissionQueue(executor, this.slotManager, this.#router, this.#output);
    const { audit, clock } = options;
    this.#auditor = audit === undefined ? null : new Auditor(executor, this.slotManager, audit, clock);
  }

  /** Whether `step` has work or events to report. */
  get busy(): boolean {
    const { running, waiting } = this.slotManager;
    return running.length + waiting.length + this.#admissions.count > 0 || this.#output.hasNews;
  }

  /** Whether a sequence waits for the mask of its grammar. */
  get awaitsMasks(): boolean {
    return this.slotManager.running.some(({ awaitsMask }) => awaitsMask);
  }

  /** Whether every sequence waits for a mask, and no request waits for a step. */
  get isStalled(): boolean {
    const { running, waiting } = this.slotManager;
    const othersWait = waiting.length + this.#admissions.count > 0 || this.#output.hasNews;
    return !othersWait && running.length > 0 && running.every(({ awaitsMask }) => awaitsMask);
  }

  /**
   * Takes a request. The next step admits or rejects it, and its message says which.
   * @param elsewhere requests in the grammar queue, which count against the queue's size; null for one of them
   */
  submit(request: GenerateMessage, constraint: Constraint | null = null, elsewhere: number | null = 0): void {
    this.#admissions.submit(request, constraint, elsewhere);
  }

  /** Rejects a request that was never submitted. */
  refuse(event: Omit<RefusedEvent, 'leastFeasibleMs'>): void {
    this.#admissions.refuse(event);
  }

  /** Rejects a request whose budget ended before it was submitted. */
  refuseLate(request: GenerateMessage): void {
    this.#admissions.refuseLate(request, this.#context(this.#options.clock()));
  }

  /** Cancels a request that was never submitted. */
  abandon(request: GenerateMessage, reason: CancelReason): void {
    this.#admissions.abandon(request, reason, this.#options.clock());
  }

  /** Whether the queue is full. @param elsewhere requests in the grammar queue */
  isFull(elsewhere: number): boolean {
    return this.#admissions.isFull(elsewhere);
  }

  /** Cancels a sequence at the next step. An unknown id is ignored: its answer may have ended already. */
  cancel(id: string, reason: CancelReason = 'cancelled'): void {
    const sequence = this.slotManager.find(id) ?? this.#admissions.find(id);
    if (sequence) sequence.ending = reason;
  }

  /** Milliseconds until a chunk of an audit may run, if the core is still as busy; Infinity without one. */
  get auditDelayMs(): number {
    return this.#auditor?.delayMs(!this.busy) ?? Infinity;
  }

  /** Runs one chunk of an audit. Its time belongs to no step. */
  audit(): void {
    this.#auditor?.step(!this.busy);
    this.#executor.takeRuns();
    this.rest();
  }

  /** Audits that ended since the last call. */
  takeAudits(): AuditEvent[] {
    return this.#auditor?.take() ?? this.#unaudited.splice(0);
  }

  /** The loop is idle from here on: the time until the next step belongs to no step. */
  rest(): void {
    this.#stepEndedAt = null;
  }

  /** Runs one step and reports its events. */
  step(): StepMessage {
    const schedule = this.#schedule(this.#options.clock());
    const run = this.#execute(schedule);
    return this.#commit(run);
  }

  /** Decides what the step runs: admission, deadlines, slots, exits, and prefill or catch-up. */
  #schedule(startedAt: number): Schedule {
    const { clock, policy } = this.#options;
    this.#admissions.admit(this.#context(startedAt));
    this.#endDue(startedAt);
    this.slotManager.reorder(this.#router.order(this.#context(startedAt)));
    this.slotManager.start(startedAt);
    this.slotManager.syncFollowers(() => clock() - startedAt < policy.maxStallMs);
    const paused = this.#replan(startedAt);
    this.slotManager.makeRoom();
    const prefill = this.#selectPrefill(startedAt, paused);
    const rows = this.slotManager.running.filter(
      (each) => this.#mayDecode(each, paused) && this.#isDecodableAfter(each, prefill),
    );
    this.#endOverdue(rows, prefill, startedAt);
    return { startedAt, paused, prefill: prefill.filter(({ sequence }) => sequence.slot !== null) };
  }

  /** Runs prefill, then one decode step or the verification of a draft. A prompt that is complete joins the batch. */
  #execute({ startedAt, paused, prefill }: Schedule): StepRun {
    const { clock } = this.#options;
    const prefilled = this.#runPrefill(prefill);
    const isReady = (each: Sequence): boolean =>
      this.#mayDecode(each, paused) && each.isDecodable(this.#executor.exit(each.exit).needed);
    // Prefill may take longer than its prediction: a deadline that a decode step would exceed ends its answer here.
    if (prefill.length > 0) this.#endOverdue(this.slotManager.running.filter(isReady), [], clock());
    const rows = this.slotManager.running.filter(isReady);
    const [lone] = rows;
    const draft = lone !== undefined && rows.length === 1 ? this.#runDraft(lone) : null;
    const stageRows = rows.length > 0 && draft === null ? this.#decode(rows) : [];
    this.#executor.settle();
    const at = clock();
    // Sampling, messages and admission between two steps take time as well, and plans count on the whole cycle.
    const took = { ms: at - startedAt, cycleMs: at - (this.#stepEndedAt ?? startedAt) };
    return { at, took, prefilled, rows, draft, stageRows };
  }

  /** Learns the step's cost, samples and emits tokens, ends answers, and builds the message. */
  #commit(run: StepRun): StepMessage {
    const { at, draft } = run;
    const work = draft === null ? this.#commitBatch(run) : this.#commitDraft(run, draft);
    this.#endScored(at);
    const message = this.#output.take(at, this.#load(at), work);
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

  /** Whether a sequence can decode after these prefill tasks. */
  #isDecodableAfter(sequence: Sequence, tasks: readonly PrefillTask[]): boolean {
    const last = sequence.tokens.length - 1;
    if (sequence.isDecodable(this.#executor.exit(sequence.exit).needed)) return true;
    return tasks.some((each) => each.sequence === sequence && each.end >= last);
  }

  /** Ends every `truncate` answer whose deadline falls into the step that is about to run. */
  #endOverdue(rows: readonly Sequence[], tasks: readonly PrefillTask[], now: number): void {
    const all = [...this.slotManager.running, ...this.slotManager.waiting];
    if (!all.some(({ request }) => request.depth.budget?.onMiss === 'truncate')) return;
    const work = { decode: decodeWork(rows, this.#router.shape), prefill: tasks.flatMap((each) => each.work) };
    for (const sequence of all) if (this.#router.isOverdue(sequence, now, work)) this.#end(sequence, 'deadline', now);
  }

  #replan(now: number): ReadonlySet<string> {
    const plan = this.#router.planStep(this.#context(now));
    for (const { id, exit } of plan.exits) {
      const sequence = this.slotManager.find(id);
      if (sequence !== undefined) sequence.exit = this.#executor.model.exitIndex(exit);
    }
    return new Set(plan.paused);
  }

  /** Every catch-up, since plans count on it; without one, a chunk of each prompt that the router names. */
  #selectPrefill(now: number, paused: ReadonlySet<string>): PrefillTask[] {
    const { running } = this.slotManager;
    const { prefillChunk, policy } = this.#options;
    const catchUps = catchUpTasks(running, this.#executor, this.#router, prefillChunk, policy.maxStallMs);
    if (catchUps.length > 0) return catchUps;
    if (running.every((each) => each.isDecodable(this.#executor.exit(each.exit).needed))) return [];
    return this.#router.choosePrefill(this.#context(now), paused).flatMap(({ id, positions }) => {
      const sequence = running.find((each) => each.id === id);
      if (sequence === undefined) return [];
      // The prompt starts from the prefix that another prompt has computed by this step.
      this.slotManager.share(sequence);
      return [prefillTask(sequence, Math.min(positions, prefillChunk), this.#executor, this.#router)];
    });
  }

  #runPrefill(tasks: readonly PrefillTask[]): AdvanceTotals {
    const work: Work['prefill'][number][] = [];
    let prefilled = 0;
    let caughtUp = 0;
    for (const [index, { sequence, end }] of tasks.entries()) {
      if (!sequence.slot) continue;
      // An earlier prompt of this step may have computed a part.
      if (index > 0) this.slotManager.share(sequence);
      work.push(...this.#router.advanceWork(sequence, end));
      const done = this.#executor.advance(sequence.slot, sequence.exit, end);
      scorePrompt(this.#executor, sequence, done.output, this.#output.prompts);
      prefilled += done.prefilled;
      caughtUp += done.caughtUp;
    }
    return { work, prefilled, caughtUp };
  }

  #decode(rows: Sequence[]): number[] {
    compact(this.#executor, rows);
    rows.sort((a, b) => Number(isPlainGreedy(b)) - Number(isPlainGreedy(a)));
    const stageRows = this.#executor.decode(
      rows.flatMap(({ slot, exit }) => (slot ? { slot, exit: this.#executor.exit(exit) } : [])),
    );
    prepareBatch(this.#executor.head, rows);
    return stageRows;
  }

  /** Drafts for a sequence that decodes alone and runs the draft through its exit; null without a draft worth its cost. */
  #runDraft(sequence: Sequence): Draft | null {
    const { request, generated, tokens, exit } = sequence;
    if (!maySpeculate(request, this.#options.speculate)) return null;
    if (request.depth.budget?.onMiss === 'truncate') {
      // Drafting and verification together take no longer than two steps.
      const decode = decodeWork([sequence], this.#router.shape);
      const twoSteps = { decode, prefill: this.#router.advanceWork(sequence, tokens.length) };
      if (this.#router.isOverdue(sequence, this.#options.clock(), twoSteps)) return null;
    }
    const { table } = this.#executor;
    const bytes = table.bytesAt(exit, tokens.length + 1);
    let most = request.maxTokens - generated - 1;
    while (most > 0 && table.bytesAt(exit, tokens.length + 1 + most) - bytes > this.slotManager.freeBytes) most >>= 1;
    const draft = this.#speculation.draft(sequence, most);
    if (draft !== null) this.#speculation.run(sequence, draft);
    return draft;
  }

  /** Emits the accepted tokens of a draft. The cost model learns nothing from it: plans count on plain steps. */
  #commitDraft({ at, took, prefilled, rows }: StepRun, draft: Draft): StepWork {
    const [sequence] = rows;
    if (sequence === undefined) throw new Error('a draft without its sequence');
    const decode = decodeWork(rows, this.#router.shape);
    const plainMs = this.#router.predictMs({ decode, prefill: [] });
    const before = sequence.generated;
    const accepted = this.#speculation.verify(sequence, draft, (choice) => this.#take(sequence, choice, at));
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

  /** Samples and emits one token for each row. @returns null where the step ran nothing */
  #commitBatch(run: StepRun): StepWork | null {
    const { at, took, prefilled, rows } = run;
    const work = this.#learn(run);
    const [lone] = rows;
    if (lone !== undefined && rows.length === 1 && prefilled.work.length === 0)
      this.#speculation.observe(lone, null, 1, took.cycleMs);
    const sampled = sampleBatch(this.#executor.head, rows);
    rows.forEach((sequence, row) => {
      const token = sampled[row];
      if (token) this.#take(sequence, token, at);
    });
    return work;
  }

  #learn({ took, prefilled, rows, stageRows }: StepRun): StepWork | null {
    if (prefilled.work.length === 0 && rows.length === 0) return null;
    const decode = decodeWork(rows, this.#router.shape);
    const work = stepWork(this.#router, decode, prefilled, stageRows, took);
    const waited = this.slotManager.running.length + this.slotManager.waiting.length > 1;
    this.#router.observeStep({ decode, prefill: prefilled.work }, took.cycleMs, waited);
    return { ...work, kernelRuns: this.#executor.takeRuns(), slowdown: this.#router.slowdown };
  }

  /** Appends and emits a sequence's next token. @returns false where its answer ends with it */
  #take(sequence: Sequence, { token, logprobs }: SampledToken, at: number): boolean {
    const { generated: before, exit } = sequence;
    const reason = sequence.accept(token, at);
    if (sequence.generated > before)
      this.#output.tokens.push({
        id: sequence.id,
        token,
        exit: this.#executor.exit(exit).layer,
        logprobs,
      });
    const endToken = sequence.generated === before && logprobs !== null ? { token, logprobs } : null;
    if (reason) this.#end(sequence, reason, at, endToken);
    return reason === null;
  }

  /** Ends requests that asked for prompt scores only. */
  #endScored(at: number): void {
    for (const sequence of [...this.slotManager.running])
      if (sequence.request.maxTokens === 0 && sequence.isDecodable(this.#executor.exit(sequence.exit).needed))
        this.#end(sequence, 'length', at);
  }

  #end(sequence: Sequence, reason: EndReason, at: number, endToken: EndedEvent['endToken'] | null = null): void {
    const { slot } = sequence;
    this.slotManager.finish(sequence);
    if (this.#auditor !== null) this.#auditor.ended(sequence, slot, reason, at);
    else if (sequence.request.audit === true) this.#unaudited.push(skipped(sequence, 'off'));
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
      ...(failure && { isLost: failure.isLost }),
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

  #context(now: number): StepContext {
    const { running, waiting } = this.slotManager;
    return { slots: this.#options.maxRunning, live: running, waiting, now };
  }

  #load(now: number): LoadSnapshot {
    const { running, waiting } = this.slotManager;
    const { kvBytes } = this.#options;
    return {
      running: running.length,
      waiting: waiting.length,
      deferred: 0,
      kvUsed: this.#executor.table.used('live') / kvBytes,
      kvCached: this.#executor.table.used('cached') / kvBytes,
      ...(this.#options.reportsWait === true && { waitMs: this.#waitMs(now) }),
    };
  }

  #waitMs(now: number): number {
    const isIdle = this.slotManager.running.length + this.slotManager.waiting.length === 0;
    if (isIdle || now - this.#wait.at >= WAIT_INTERVAL_MS) {
      this.#wait = { ms: this.#router.predictedWaitMs(this.#context(now)), at: now };
    }
    return this.#wait.ms;
  }
}
