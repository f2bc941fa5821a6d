/**
 * Requests that arrived since the last step: who is taken, and what is told of it.
 *
 * A step takes tens of milliseconds, in which a whole burst may arrive. Admitted one by one, the first of it would be
 * told what it gets without the others: they are admitted together, when the next step begins.
 * Knows: the queue, the router, the step output. Must not know: slots, graphs, what a step runs.
 */
import type { Constraint } from '../sampling/constraint.js';
import type { Executor } from '../execution/executor.js';
import type { CancelReason, GenerateMessage, RefusedEvent } from '../protocol.js';
import type { Admission } from '../../router/index.js';
import type { StepOutput } from './step-output.js';
import type { RouterAdapter, StepContext } from './router-adapter.js';
import type { SlotManager } from '../slots/slot-manager.js';
import { Sequence } from '../sequence.js';

/** One that is admitted, and how. */
interface Taken {
  readonly sequence: Sequence;
  readonly admission: Extract<Admission, { kind: 'admit' }>;
}

export class AdmissionQueue {
  /** Neither admitted nor refused yet. */
  #since: Sequence[] = [];

  constructor(
    private readonly executor: Executor,
    private readonly slotManager: SlotManager,
    private readonly router: RouterAdapter,
    private readonly output: StepOutput,
  ) {}

  get count(): number {
    return this.#since.length;
  }

  /** Whether the queue has no place left. @param elsewhere requests that wait, but neither here nor in the queue */
  isFull(elsewhere: number): boolean {
    return this.slotManager.isFull(elsewhere + this.#since.length);
  }

  find(id: string): Sequence | undefined {
    return this.#since.find((sequence) => sequence.id === id);
  }

  /** Takes a request for the next step, or refuses what can't be served. @param elsewhere see `EngineCore.submit` */
  submit(request: GenerateMessage, constraint: Constraint | null, elsewhere: number | null): void {
    const reason = this.#fault(request) ?? (elsewhere !== null && this.isFull(elsewhere) ? 'queue_full' : null);
    if (reason === null) this.#since.push(this.#sequence(request, constraint));
    else {
      constraint?.close();
      this.#refuse(request.id, reason);
    }
  }

  /** Refuses a request that was never submitted. */
  refuse(event: Omit<RefusedEvent, 'leastFeasibleMs'>): void {
    this.output.refused.push({ leastFeasibleMs: null, ...event });
  }

  /** Refuses a request whose budget was over before it was submitted. */
  refuseLate(request: GenerateMessage, context: StepContext): void {
    const [admission] = this.router.admit([this.#sequence(request, null)], context);
    this.#refuse(request.id, 'budget_infeasible', admission?.kind === 'reject' ? admission.leastFeasibleMs : null);
  }

  /** Ends a request that was never submitted. */
  abandon({ id, prompt }: GenerateMessage, reason: CancelReason, at: number): void {
    this.output.ended.push({
      ...{ id, reason, error: null, promptTokens: prompt.length, cachedTokens: 0, preemptions: 0 },
      ...{ startedAt: null, firstTokenAt: null, endedAt: at },
    });
  }

  /** Admits to the queue, or refuses, all that arrived. */
  admit(context: StepContext): void {
    let asked = this.#since;
    this.#since = [];
    while (asked.length > 0) {
      const taken = this.#admitted(asked, context);
      const followsRefused = ({ sequence }: Taken): boolean => sequence.leader?.sequence.isOver === true;
      const isFinal = taken.length === asked.length || !taken.some(followsRefused);
      if (isFinal) for (const each of taken) this.#enqueue(each, context.now);
      // Who counted on the prompt of one that was refused is asked again, without it: of fewer each time.
      asked = isFinal ? [] : taken.map(({ sequence }) => sequence);
    }
  }

  /** Those that are admitted if they are asked together; refuses the others. */
  #admitted(asked: readonly Sequence[], context: StepContext): Taken[] {
    asked.forEach((sequence, i) => {
      this.slotManager.lookUp(sequence, asked.slice(0, i));
    });
    const admissions = this.router.admit(asked, context);
    return asked.flatMap((sequence, i) => {
      const admission = admissions[i];
      if (admission?.kind === 'admit') return { sequence, admission };
      sequence.constraint?.close();
      // Whose prompt was to follow its own looks for another.
      sequence.isOver = true;
      this.#refuse(sequence.id, 'budget_infeasible', admission?.leastFeasibleMs ?? null);
      return [];
    });
  }

  #enqueue({ sequence, admission }: Taken, now: number): void {
    const { exit, prediction, serviceClass, expectedTokens, expectedTokensP90, probability } = admission;
    sequence.exit = this.executor.model.exitIndex(exit);
    sequence.admission = admission;
    this.slotManager.enqueue(sequence);
    this.router.enqueued(sequence, now);
    this.output.planned.push({
      id: sequence.id,
      exit,
      serviceClass,
      expectedTokens,
      expectedTokensP90,
      probability,
      predictedTtftMs: prediction.ttftMs,
      predictedTpotMs: prediction.tpotMs,
      predictedMs: prediction.totalMs,
      predictedP10Ms: prediction.p10Ms,
      predictedP90Ms: prediction.p90Ms,
    });
    if (sequence.request.promptLogprobs !== null) this.output.prompts.push({ id: sequence.id, logprobs: [null] });
  }

  #fault({ prompt, maxTokens, prediction }: GenerateMessage): RefusedEvent['reason'] | null {
    if (prompt.length === 0 || prompt.length + maxTokens > this.executor.model.limits.capacity) return 'too_long';
    // The gateway refuses them, with more words; here one would end the engine, and with it everybody's answers.
    return this.#areKnown(prompt) && this.#areKnown(prediction ?? []) ? null : 'unknown_token';
  }

  /** Whether the embedding has a row for each. */
  #areKnown(tokens: readonly number[]): boolean {
    const { vocab } = this.executor.model.manifest.architecture;
    return tokens.every((token) => Number.isInteger(token) && token >= 0 && token < vocab);
  }

  #sequence(request: GenerateMessage, constraint: Constraint | null): Sequence {
    const { model, units } = this.executor;
    return new Sequence(request, model.exitIndex(request.depth.maxExit), constraint, units.exits);
  }

  #refuse(id: string, reason: RefusedEvent['reason'], leastFeasibleMs: number | null = null): void {
    this.output.refused.push({ id, reason, leastFeasibleMs });
  }
}
