/**
 * The engine without its process: requests come in, each step returns one message.
 *
 * A step schedules (admission, deadlines, slots, exits, prefill), executes (prefill, then decode or a draft) and commits
 * (cost model, sampling, ends, message). It knows token ids, never text, HTTP or processes.
 */
import type { Policy, PrefillChunk, Service, StepPlan } from '../../router/index.js';
import type { CostTable } from '../../cost/table.js';
import type { Work } from '../../cost/model.js';
import { depthShape } from '../depth-shape.js';
import { Auditor } from '../audit/auditor.js';
import { AdmissionQueue } from './admission-queue.js';
import { type PrefillTask, prefillTask, catchUpTasks, fittingTasks } from '../execution/select-prefill.js';
import { Landings } from '../landing/landings.js';
import type { TokenTexts } from '../landing/token-texts.js';
import { type Constraint } from '../sampling/constraint.js';
import { type SampledToken, sampleBatch, isPlainGreedy, prepareBatch } from '../sampling/sample-batch.js';
import type { Executor } from '../execution/executor.js';
import { folderPrior } from './length-prior.js';
import type { AuditEvent, CancelReason, GenerateMessage, RefusedEvent, StepMessage, StepWork } from '../protocol.js';
import { Drafting } from './drafting.js';
import { Endings } from './endings.js';
import { LoadReport } from './load-report.js';
import { StepOutput } from './step-output.js';
import { compact } from '../slots/compaction.js';
import { RouterAdapter, type StepContext } from './router-adapter.js';
import { scorePrompt } from '../sampling/prompt-scores.js';
import { SlotManager, type SlotManagerLimits } from '../slots/slot-manager.js';
import type { Sequence } from '../sequence.js';
import type { AuditOptions, Speculate } from '../client/options.js';
import type { Draft } from '../speculation/speculation.js';
import { type AdvanceTotals, decodeWork, type StepTimes, stepWork } from './step-stats.js';

export interface CoreOptions extends SlotManagerLimits {
  readonly policy: Policy;
  /** How many times slower than the costs the machine is at start; 1 where absent. */
  readonly slowdown?: number;
  /** Most positions of one prefill or catch-up chunk. */
  readonly prefillChunk: number;
  readonly speculate: Speculate;
  /** The vocabulary, for answers that end early. Absent: such an answer ends at its deadline only. */
  readonly texts?: TokenTexts;
  /** Absent: no audits. The slots then include one for audits. */
  readonly audit?: AuditOptions | undefined;
  /** Interval at which messages predict the wait of a new request, ms; absent: they never do. */
  readonly waitIntervalMs?: number;
  readonly clock: () => number;
}

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
  readonly took: StepTimes;
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
  readonly #landings: Landings;
  readonly #drafting: Drafting;
  readonly #endings: Endings;
  readonly #loadReport: LoadReport;
  readonly #admissions: AdmissionQueue;
  /** Null without audits. */
  readonly #auditor: Auditor | null;
  /** End of the previous step; null while the loop is idle. */
  #stepEndedAt: number | null = null;

  constructor(executor: Executor, costs: CostTable, options: CoreOptions) {
    this.#executor = executor;
    this.#options = options;
    this.slotManager = new SlotManager(executor.table, options);
    const { manifest } = executor.model;
    const { prior, fault } = folderPrior(manifest);
    this.lengthPriorFault = fault;
    const priors = { lengths: prior, kept: manifest.kept ?? null };
    this.#router = new RouterAdapter(depthShape(manifest), costs, options.policy, priors, options.slowdown);
    const { audit, clock, speculate } = options;
    this.#landings = new Landings(options.texts ?? null, (sequence) => this.#router.landing(sequence));
    this.#drafting = new Drafting(executor, this.slotManager, this.#router, this.#landings, speculate);
    this.#admissions = new AdmissionQueue(executor, this.slotManager, this.#router, this.#output);
    this.#auditor = audit === undefined ? null : new Auditor(executor, this.slotManager, audit, clock);
    this.#endings = new Endings(executor, this.slotManager, this.#router, this.#output, this.#auditor);
    this.#loadReport = new LoadReport(executor, this.#router, options);
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
  reject(event: Omit<RefusedEvent, 'leastFeasibleMs'>): void {
    this.#admissions.reject(event);
  }

  /** Rejects a request whose budget ended before it was submitted. */
  rejectLate(request: GenerateMessage): void {
    this.#admissions.rejectLate(request, this.#context(this.#options.clock()));
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
    return this.#endings.takeAudits();
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

  /** The router decides what the step runs; the engine puts each decision into force. */
  #schedule(startedAt: number): Schedule {
    let schedule: Schedule = { startedAt, paused: new Set(), prefill: [] };
    const views = (sequences: readonly Sequence[]) => sequences.map((sequence) => this.#router.view(sequence));
    this.#router.step({
      state: () => this.#router.state(this.#context(startedAt)),
      arrivals: () => views(this.#admissions.next()),
      decide: (admissions) => {
        const { queued, next } = this.#admissions.decide(admissions, startedAt);
        return { queued: views(queued), next: views(next) };
      },
      endDue: () => {
        this.#endings.endDue(startedAt);
      },
      start: (service) => {
        this.#start(service, startedAt);
      },
      apply: (exits) => {
        this.#apply(exits);
      },
      select: ({ paused, chunks }) => {
        schedule = { startedAt, paused: new Set(paused), prefill: this.#selectPrefill(chunks) };
        return this.#workOf(schedule);
      },
      endOverdue: (ids) => {
        this.#endings.endAtDeadline(ids, startedAt);
      },
    });
    return { ...schedule, prefill: schedule.prefill.filter(({ sequence }) => sequence.slot !== null) };
  }

  /** Gives slots to the waiting sequences. */
  #start({ order, kept }: Service, now: number): void {
    const { clock, policy } = this.#options;
    this.slotManager.reorder(order, now);
    this.slotManager.start(now, kept);
    this.slotManager.syncFollowers(() => clock() - now < policy.maxStallMs);
  }

  /** Puts exits into force, and makes room for the next tokens. */
  #apply(exits: StepPlan['exits']): void {
    for (const { id, exit } of exits) {
      const sequence = this.slotManager.find(id);
      if (sequence !== undefined) sequence.exit = this.#executor.model.exitIndex(exit);
    }
    this.slotManager.makeRoom();
  }

  /** The work of a step: its prefill, and the rows that can decode behind it. */
  #workOf({ paused, prefill }: Schedule): Work {
    const rows = this.slotManager.running.filter(
      (each) => this.#mayDecode(each, paused) && this.#isDecodableAfter(each, prefill),
    );
    return { decode: decodeWork(rows, this.#router.shape), prefill: prefill.flatMap(({ work }) => work) };
  }

  /** Runs prefill, then one decode step or the verification of a draft. A prompt that is complete joins the batch. */
  #execute({ startedAt, paused, prefill }: Schedule): StepRun {
    const { clock } = this.#options;
    const prefilled = this.#runPrefill(prefill);
    const isReady = (each: Sequence): boolean =>
      this.#mayDecode(each, paused) && each.isDecodable(this.#executor.exit(each.exit).needed);
    // Prefill may take longer than its prediction: a deadline that a decode step would exceed ends its answer here.
    if (prefill.length > 0) this.#endings.endOverdue(this.slotManager.running.filter(isReady), clock());
    const rows = this.slotManager.running.filter(isReady);
    const decode = (): Work => ({ decode: decodeWork(rows, this.#router.shape), prefill: [] });
    this.#landings.begin(rows, prefill.length > 0 ? clock() : startedAt, () => this.#router.predictMs(decode()));
    const [lone] = rows;
    const draft = lone !== undefined && rows.length === 1 ? this.#drafting.run(lone, clock) : null;
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
    this.#endings.endScored(at);
    const message = this.#output.take(at, this.#loadReport.take(this.#context(at)), work);
    this.#stepEndedAt = this.busy ? at : null;
    return message;
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

  /** Every catch-up, since plans count on it; without one, a chunk of each prompt that the router names. */
  #selectPrefill(planned: readonly PrefillChunk[]): PrefillTask[] {
    const { running } = this.slotManager;
    const { prefillChunk, policy } = this.#options;
    const catchUps = catchUpTasks(running, this.#executor, this.#router, prefillChunk, policy.maxStallMs);
    if (catchUps.length > 0) return fittingTasks(catchUps, this.#executor);
    const chunks = planned.flatMap(({ id, positions }) => {
      const sequence = running.find((each) => each.id === id);
      if (sequence === undefined) return [];
      // The prompt starts from the prefix that another prompt has computed by this step.
      this.slotManager.share(sequence);
      return [prefillTask(sequence, Math.min(positions, prefillChunk), this.#executor, this.#router)];
    });
    return fittingTasks(chunks, this.#executor);
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

  #commitDraft({ at, took, prefilled, rows }: StepRun, draft: Draft): StepWork {
    const [sequence] = rows;
    if (sequence === undefined) throw new Error('a draft without its sequence');
    return this.#drafting.commit(sequence, draft, prefilled, took, (choice) => this.#take(sequence, choice, at));
  }

  /** Samples and emits one token for each row. @returns null where the step ran nothing */
  #commitBatch(run: StepRun): StepWork | null {
    const { at, took, prefilled, rows } = run;
    const work = this.#learn(run);
    const [lone] = rows;
    if (lone !== undefined && rows.length === 1 && prefilled.work.length === 0)
      this.#drafting.observePlain(lone, took.cycleMs);
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
    this.#router.observeStep({ decode, prefill: prefilled.work }, took.cycleMs);
    return { ...work, kernelRuns: this.#executor.takeRuns(), slowdown: this.#router.slowdown };
  }

  /** Appends and emits a sequence's next token. @returns false where its answer ends with it */
  #take(sequence: Sequence, { token, logprobs, landed }: SampledToken, at: number): boolean {
    const { generated: before, exit } = sequence;
    const reason = sequence.accept(token, at);
    if (sequence.generated > before)
      this.#output.tokens.push({
        id: sequence.id,
        token,
        exit: this.#executor.exit(exit).layer,
        logprobs,
      });
    if (reason === null) return true;
    const isEndToken = sequence.generated === before;
    this.#endings.end(sequence, reason, at, {
      ...(isEndToken && logprobs !== null && { endToken: { token, logprobs } }),
      ...(isEndToken && landed !== undefined && { landed: { at: before, ...landed } }),
    });
    return false;
  }

  #context(now: number): StepContext {
    const { running, waiting } = this.slotManager;
    const { maxRunning, kvBytes } = this.#options;
    const kvPositions = kvBytes / this.#executor.model.bytesPerPosition;
    return {
      slots: maxRunning,
      live: running,
      waiting,
      now,
      kvPositions,
      sentenceTokens: this.#landings.sentenceTokens.first,
    };
  }
}
