/**
 * The engine without its process: requests come in, each step returns one message.
 *
 * A step schedules (admission, ends, slots, exits, then one batch), runs the batch, and commits (cost model, sampling, ends,
 * message). It knows token ids, never text, HTTP or processes.
 */
import { type Policy, Router, type Service, type StepPlan } from '../../scheduler/router.js';
import type { CostTable } from '../../cost/table.js';
import { depthShape, lengthPrior } from '../depth-shape.js';
import { Auditor } from '../audit/auditor.js';
import type { AuditOptions, Speculate } from '../../protocol/options.js';
import type { Constraint } from '../constraint.js';
import type { Executor } from '../execution/executor.js';
import { StepClock } from '../execution/step-clock.js';
import type { Head } from '../../model/head.js';
import type { TokenTexts } from '../landing/token-texts.js';
import type {
  AuditEvent,
  CancelReason,
  EngineRequest,
  RejectedEvent,
  StepMessage,
  StepWork,
} from '../../protocol/index.js';
import { prepareTokens, type SampledToken, sampleBatch } from '../sampling/sample-batch.js';
import type { Sequence } from '../../scheduler/sequence.js';
import { SlotManager, type SlotManagerLimits } from '../../scheduler/slot-manager.js';
import { AdmissionQueue } from '../../scheduler/arrivals.js';
import { Drafting } from './drafting.js';
import { Endings } from './endings.js';
import { Landings } from './landings.js';
import { LoadReport } from './load-report.js';
import { allDecode } from './quiet.js';
import { type Selection, StepBuilder } from './step-builder.js';
import { StepOutput } from './step-output.js';
import { type Step, type StepTimes, stepWork } from './step-stats.js';
import { stateOf, type StepContext, viewOf } from './views.js';

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

export class EngineCore {
  readonly slotManager: SlotManager;
  readonly #executor: Executor;
  readonly #options: CoreOptions;
  readonly #router: Router;
  readonly #output = new StepOutput();
  readonly #landings: Landings;
  readonly #drafting: Drafting;
  readonly #endings: Endings;
  readonly #steps: StepBuilder;
  readonly #loadReport: LoadReport;
  readonly #admissions: AdmissionQueue;
  /** Null without audits. */
  readonly #auditor: Auditor | null;
  readonly #clock: StepClock;
  /** End of the previous step; null while the loop is idle. */
  #stepEndedAt: number | null = null;

  constructor(executor: Executor, costs: CostTable, options: CoreOptions) {
    this.#executor = executor;
    this.#options = options;
    this.slotManager = new SlotManager(executor.table, options);
    const { manifest } = executor.model;
    const priors = { lengths: lengthPrior(manifest), kept: manifest.kept ?? null };
    this.#router = new Router(depthShape(manifest), costs, options.policy, priors, options.slowdown);
    const { audit, clock, speculate } = options;
    this.#clock = new StepClock(clock);
    this.#landings = new Landings(options.texts ?? null, (sequence) =>
      this.#router.landing(viewOf(sequence, this.#router.shape)),
    );
    const parts = { executor, slotManager: this.slotManager, router: this.#router, landings: this.#landings };
    this.#drafting = new Drafting({ ...parts, speculate });
    this.#admissions = new AdmissionQueue(executor, this.slotManager, this.#router, this.#output);
    this.#auditor = audit === undefined ? null : new Auditor(executor, this.slotManager, audit, clock);
    this.#endings = new Endings(executor, this.slotManager, this.#router, this.#output, this.#auditor);
    const limits = { prefillChunk: options.prefillChunk, maxStallMs: options.policy.maxStallMs };
    const own = { drafting: this.#drafting, output: this.#output, clock: this.#clock };
    this.#steps = new StepBuilder({ ...parts, ...limits, ...own });
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
  submit(request: EngineRequest, constraint: Constraint | null = null, elsewhere: number | null = 0): void {
    this.#admissions.submit(request, constraint, elsewhere);
  }

  /** Rejects a request that was never submitted. */
  reject(event: Omit<RejectedEvent, 'leastFeasibleMs'>): void {
    this.#admissions.reject(event);
  }

  /** Rejects a request whose budget ended before it was submitted. */
  rejectLate(request: EngineRequest): void {
    this.#admissions.rejectLate(request, this.#context(this.#options.clock()));
  }

  /** Cancels a request that was never submitted. */
  abandon(request: EngineRequest, reason: CancelReason): void {
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
    this.#clock.rest();
  }

  /** Runs one step and reports its events. */
  step(): StepMessage {
    const { clock } = this.#options;
    const startedAt = clock();
    this.#clock.enter('planning', startedAt);
    const step = this.#schedule(startedAt);
    const choose = (head: Head): void => {
      prepareTokens(head, step.rows, step.draft);
    };
    this.#executor.run(step, choose, this.#clock);
    return this.#commit(step, clock());
  }

  /** The router decides what the step runs; the engine puts each decision into force. */
  #schedule(now: number): Step {
    if (this.#isQuiet) {
      this.#router.pass(now);
      this.slotManager.makeRoom();
      return this.#steps.build({ tasks: [], paused: new Set() }, now);
    }
    const views = (sequences: readonly Sequence[]) => sequences.map((each) => viewOf(each, this.#router.shape));
    let selection: Selection = { tasks: [], paused: new Set(), work: { decode: null, prefill: [] } };
    this.#router.step({
      state: () => stateOf(this.#context(now), this.#router.shape),
      arrivals: () => views(this.#admissions.next()),
      decide: (admissions) => {
        const { queued, next } = this.#admissions.decide(admissions, now);
        return { queued: views(queued), next: views(next) };
      },
      endDue: () => {
        this.#endings.endDue(now);
      },
      start: (service) => {
        this.#start(service, now);
      },
      apply: (exits) => {
        this.#apply(exits);
      },
      select: ({ chunks, paused }) => {
        selection = this.#steps.select(chunks, new Set(paused));
        return selection.work;
      },
      endOverdue: (ids) => {
        this.#endings.endAtDeadline(ids, now);
      },
    });
    return this.#steps.build(selection, now);
  }

  /** Whether the router has nothing to decide in a step. */
  get #isQuiet(): boolean {
    const { running, waiting } = this.slotManager;
    return waiting.length + this.#admissions.count === 0 && running.length > 0 && allDecode(running, this.#executor);
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

  /** Learns the step's cost, samples and emits tokens, ends answers, and builds the message. */
  #commit(step: Step, at: number): StepMessage {
    const { startedAt, chunks, rows } = step;
    // Sampling, messages and admission between two steps take time as well, and plans count on the whole cycle.
    const partMs = this.#clock.take(at);
    const took = { ms: at - startedAt, cycleMs: at - (this.#stepEndedAt ?? startedAt), partMs };
    this.#clock.enter('sampling', at);
    const work = chunks.length + rows.length === 0 ? null : this.#commitTokens(step, took, at);
    this.#endings.endScored(at);
    this.#clock.enter('messages');
    const message = this.#output.take(at, this.#loadReport.take(this.#context(at)), work);
    if (this.busy) this.#stepEndedAt = at;
    else this.rest();
    return message;
  }

  /** Samples and emits the tokens of the rows, or those of a draft that agree. */
  #commitTokens(step: Step, took: StepTimes, at: number): StepWork {
    const work = { ...stepWork(this.#router, step, took), kernelRuns: this.#executor.takeRuns() };
    const sequences = step.rows.map(({ sequence }) => sequence);
    const [lone] = sequences;
    if (lone !== undefined && step.draft !== null)
      return this.#drafting.commit(lone, step.draft, work, (choice) => this.#take(lone, choice, at));
    this.#router.observeStep(step.work, took.cycleMs);
    if (lone !== undefined && step.chunks.length + sequences.length === 1)
      this.#drafting.observePlain(lone, took.cycleMs);
    for (const [row, token] of sampleBatch(this.#executor.head, sequences).entries()) {
      const sequence = sequences[row];
      if (sequence !== undefined) this.#take(sequence, token, at);
    }
    return { ...work, slowdown: this.#router.slowdown };
  }

  /** Appends and emits a sequence's next token. @returns false where its answer ends with it */
  #take(sequence: Sequence, { token, logprobs, landed }: SampledToken, at: number): boolean {
    const { generated: before, exit } = sequence;
    const reason = sequence.accept(token, at);
    if (sequence.generated > before)
      this.#output.tokens.push({ id: sequence.id, token, exit: this.#executor.exit(exit).layer, logprobs });
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
    const { first: sentenceTokens } = this.#landings.sentenceTokens;
    return { slots: maxRunning, live: running, waiting, now, kvPositions, sentenceTokens };
  }
}
