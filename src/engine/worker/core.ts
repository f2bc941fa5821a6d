/**
 * The engine without its process: requests come in, each step returns one message.
 *
 * A step schedules, runs the plan, samples and commits. It knows token ids, never text, HTTP or processes.
 */
import type { CostTable } from '../scheduler/cost/table.js';
import type {
  CancelReason,
  EndedEvent,
  LoadSnapshot,
  SequenceRequest,
  RejectedEvent,
  StepMessage,
} from '../../protocol/index.js';
import type { Speculate } from '../../protocol/engine-options.js';
import type { Policy } from '../scheduler/policy.js';
import { Scheduler } from '../scheduler/scheduler.js';
import type { SlotManagerLimits } from '../scheduler/slot-manager.js';
import type { SequenceEnd, StepPlan, StepResult } from '../scheduler/step-plan.js';
import { Answer } from '../answer.js';
import type { Constraint } from '../constraint.js';
import { depthShape, lengthPrior } from '../depth-shape.js';
import type { Executor } from '../execution/executor.js';
import { StepClock } from '../execution/step-clock.js';
import { Landings } from './landings.js';
import type { TokenTexts } from '../landing/token-texts.js';
import { type StepEvents, StepRunner, stepWork } from './step-runner.js';

/** Interval at which the wait of a new request is predicted, ms. The prediction takes as long as planning a step. */
const WAIT_INTERVAL_MS = 1000;

export interface CoreOptions extends SlotManagerLimits {
  readonly policy: Policy;
  /** How many times slower than the costs the machine is at start; 1 where absent. */
  readonly slowdown?: number;
  /** Most positions of one prefill or catch-up chunk. */
  readonly prefillChunk: number;
  readonly speculate: Speculate;
  /** The vocabulary, for answers that end early. Absent: such an answer ends at its deadline only. */
  readonly texts?: TokenTexts;
  readonly clock: () => number;
  /** Sees every plan before it runs, as a part of the run, and what its step did: for records and tests. */
  readonly onPlan?: (plan: StepPlan) => void;
  readonly onResult?: (result: StepResult) => void;
}

export class EngineCore {
  readonly scheduler: Scheduler;
  readonly #executor: Executor;
  readonly #options: CoreOptions;
  readonly #runner: StepRunner;
  readonly #clock: StepClock;
  /** By id: the answers of all sequences of the scheduler. */
  readonly #answers = new Map<string, Answer>();
  /** Events of the next message. */
  #events = noEvents();
  /** End of the previous step; null while the loop is idle. */
  #stepEndedAt: number | null = null;
  /** The predicted wait of a new request, and when it was computed. */
  #wait = { ms: 0, at: -Infinity };

  constructor(executor: Executor, costs: CostTable, options: CoreOptions) {
    this.#executor = executor;
    this.#options = options;
    this.scheduler = schedulerOf(executor, costs, options);
    this.#clock = new StepClock(options.clock);
    const landings = new Landings(options.texts ?? null);
    this.#runner = new StepRunner(executor, landings, this.#clock, (id) => this.#answer(id));
  }

  /** Whether `step` has work or events to report. */
  get busy(): boolean {
    return !this.scheduler.isIdle || this.#hasNews;
  }

  /** Whether a sequence waits for the mask of its grammar. */
  get awaitsMasks(): boolean {
    return this.scheduler.slots.running.some(({ awaitsMask }) => awaitsMask);
  }

  /** Whether every sequence waits for a mask, and no request waits for a step. */
  get isStalled(): boolean {
    const { arrived, slots } = this.scheduler;
    const othersWait = slots.waiting.length + arrived > 0 || this.#hasNews;
    return !othersWait && slots.running.length > 0 && slots.running.every(({ awaitsMask }) => awaitsMask);
  }

  /**
   * Takes a request. The next step admits or rejects it, and its message says which.
   * @param elsewhere requests in the grammar queue, which count against the queue's size; null for one of them
   */
  submit(request: SequenceRequest, constraint: Constraint | null = null, elsewhere: number | null = 0): void {
    const isFull = elsewhere !== null && this.isFull(elsewhere, request.isNet);
    const reason = this.#fault(request) ?? (isFull ? 'queue_full' : null);
    if (reason === null) {
      this.#answers.set(request.id, new Answer(this.scheduler.add(request, constraint), constraint));
      return;
    }
    constraint?.close();
    this.reject({ id: request.id, reason });
  }

  /** Rejects a request that was never submitted. */
  reject(event: Omit<RejectedEvent, 'leastFeasibleMs'>): void {
    this.#events.rejected.push({ leastFeasibleMs: null, ...event });
  }

  /** Whether the queue is full. @param elsewhere requests in the grammar queue @param isNet whether it is for a net */
  isFull(elsewhere: number, isNet?: boolean): boolean {
    return this.scheduler.isFull(elsewhere, isNet);
  }

  /** Cancels a sequence at the next step. An unknown id is ignored: its answer may have ended already. */
  cancel(id: string, reason: CancelReason = 'cancelled'): void {
    this.scheduler.cancel(id, reason);
  }

  /** Wakes the sequences of nets. */
  wake(ids: readonly string[]): void {
    for (const id of ids) this.scheduler.nets.wake(id);
  }

  /** Instant at which a step is due, whatever `busy` says; Infinity without one. */
  get wakesAt(): number {
    return this.scheduler.nets.wakesAt;
  }

  /** The loop is idle from here on: the time until the next step belongs to no step. */
  rest(): void {
    this.#stepEndedAt = null;
    this.#clock.rest();
  }

  /** Runs one step: schedules, runs the plan, samples, commits, and reports its events. */
  step(): StepMessage {
    const { clock, onPlan, onResult } = this.#options;
    const startedAt = clock();
    this.#clock.enter('planning', startedAt);
    const plan = this.scheduler.schedule(startedAt);
    if (onPlan !== undefined)
      this.#clock.run('decode', () => {
        onPlan(plan);
      });
    this.#report(plan);
    const ran = this.#runner.run(plan, this.#events);
    const at = clock();
    // Sampling, messages and admission between two steps take time as well, and plans count on the whole cycle.
    const partMs = this.#clock.take(at);
    const took = { ms: at - plan.at, cycleMs: at - (this.#stepEndedAt ?? plan.at), partMs };
    this.#clock.enter('sampling', at);
    const sampled = this.#runner.sample(ran, this.#events);
    const work = stepWork(plan, sampled, took, this.scheduler);
    const result: StepResult = { at, cycleMs: took.cycleMs, planningMs: partMs.planning + partMs.memory, ...sampled };
    onResult?.(result);
    this.#endAnswers(this.scheduler.commit(plan, result), at);
    this.#clock.enter('messages');
    const { slowdown } = this.scheduler.model.drift;
    const load = this.#loadAt(at);
    const { armed } = plan;
    const news = { ...this.#events, ...(armed && { armed }) };
    const message: StepMessage = { type: 'step', at, ...news, load, work: work && { ...work, slowdown } };
    this.#events = noEvents();
    if (this.busy) this.#stepEndedAt = at;
    else this.rest();
    return message;
  }

  /** Whether rejections are pending, which must be sent without waiting for a step. */
  get #hasNews(): boolean {
    return this.#events.rejected.length > 0;
  }

  /** Reports the decisions of a plan. */
  #report(plan: StepPlan): void {
    this.#events.planned.push(...plan.admitted);
    this.#events.rejected.push(...plan.rejected);
    for (const { id, isDryRun } of plan.admitted) {
      if (isDryRun !== true && this.#answer(id).request.promptLogprobs !== null)
        this.#events.prompts.push({ id, logprobs: [null] });
    }
    for (const { id } of plan.rejected) this.#forget(id);
    this.#endAnswers(plan.ended, plan.at);
  }

  #endAnswers(ends: readonly SequenceEnd[], at: number): void {
    for (const end of ends) {
      this.#events.ended.push(endedEvent(this.#answer(end.id), end, at));
      this.#forget(end.id);
    }
  }

  #loadAt(now: number): LoadSnapshot {
    const { running, waiting } = this.scheduler.slots;
    const { kvBytes } = this.#options;
    const { table } = this.#executor;
    if (running.length + waiting.length === 0 || now - this.#wait.at >= WAIT_INTERVAL_MS)
      this.#wait = { ms: this.scheduler.predictedWaitMs(now), at: now };
    return {
      running: running.length,
      waiting: waiting.length,
      kvUsed: table.used('live') / kvBytes,
      kvCached: table.used('cached') / kvBytes,
      waitMs: this.#wait.ms,
    };
  }

  #forget(id: string): void {
    this.#answers.get(id)?.constraint?.close();
    this.#answers.delete(id);
  }

  /** @throws Error for an id without an answer, which is a bug */
  #answer(id: string): Answer {
    const answer = this.#answers.get(id);
    if (answer === undefined) throw new Error(`sequence ${id} has no answer`);
    return answer;
  }

  #fault({ prompt, maxTokens, prediction }: SequenceRequest): RejectedEvent['reason'] | null {
    if (prompt.length === 0 || prompt.length + maxTokens > this.#executor.model.limits.capacity) return 'too_long';
    // The gateway checks token ids with better messages. In the engine, an unknown id would crash the process.
    const { vocab } = this.#executor.model.manifest.architecture;
    const isKnown = (token: number): boolean => Number.isInteger(token) && token >= 0 && token < vocab;
    return prompt.every(isKnown) && (prediction ?? []).every(isKnown) ? null : 'unknown_token';
  }
}

const noEvents = (): StepEvents => ({ planned: [], rejected: [], prompts: [], tokens: [], ended: [] });

function endedEvent({ sequence, constraint, last }: Answer, { reason, isDryRun }: SequenceEnd, at: number): EndedEvent {
  const failure = reason === 'error' ? constraint?.failed : null;
  return {
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
    ...last,
    ...(sequence.drafts.length > 0 && { drafts: [...sequence.drafts] }),
    ...(isDryRun === true && { isDryRun }),
  };
}

function schedulerOf(executor: Executor, costs: CostTable, options: CoreOptions): Scheduler {
  const { model, table, mostPrefill } = executor;
  const { manifest, limits, gate } = model;
  const { slowdown = 1, speculate } = options;
  return new Scheduler(table, {
    ...options,
    shape: depthShape(manifest),
    costs,
    priors: { lengths: lengthPrior(manifest) },
    slowdown,
    mostPrefill,
    drafts: { speculate, most: Math.min(limits.maxRows, limits.maxChunk) - 1, hasGate: gate !== null },
  });
}
