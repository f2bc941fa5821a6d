/**
 * Requests that arrived since the last step: the router admits them together, or rejects them, when the next step begins.
 *
 * A step takes tens of milliseconds, in which a whole burst may arrive. With admission one by one, the plan of the first
 * request would not include the others.
 * Must not know: slots, graphs, the work of a step.
 */
import { landingPlan } from '../protocol/early-end.js';
import type { Constraint } from '../engine/constraint.js';
import type { Executor } from '../engine/execution/executor.js';
import type { CancelReason, EndReason, EngineRequest, PlannedEvent, RejectedEvent } from '../protocol/index.js';
import type { Admission, Admitted, Router } from './router.js';
import type { StepOutput } from '../engine/worker/step-output.js';
import { stateOf, type StepContext, viewOf } from '../engine/worker/views.js';
import type { SlotManager } from './slot-manager.js';
import { Sequence } from './sequence.js';

/** An admitted sequence. */
interface Decided {
  readonly sequence: Sequence;
  readonly admission: Admitted;
}

const isDryRun = ({ request }: Sequence): boolean => request.isDryRun === true;

function plannedEvent({ sequence, admission }: Decided): PlannedEvent {
  const plan: Omit<Admitted, 'kind'> = admission;
  return { ...plan, id: sequence.id, landing: landingPlan(sequence.request) };
}

export class AdmissionQueue {
  /** Neither admitted nor rejected yet. */
  #arrived: Sequence[] = [];
  /** The requests that the router decides at present. */
  #deciding: readonly Sequence[] = [];

  constructor(
    private readonly executor: Executor,
    private readonly slotManager: SlotManager,
    private readonly router: Router,
    private readonly output: StepOutput,
  ) {}

  get count(): number {
    return this.#arrived.length;
  }

  /** Whether the queue is full. @param elsewhere requests that wait outside this queue and the slot manager's */
  isFull(elsewhere: number): boolean {
    return this.slotManager.isFull(elsewhere + this.#arrived.filter((each) => !isDryRun(each)).length);
  }

  find(id: string): Sequence | undefined {
    return this.#arrived.find((sequence) => sequence.id === id);
  }

  /** Takes a request for the next step, or rejects it if it cannot be served. @param elsewhere see `EngineCore.submit` */
  submit(request: EngineRequest, constraint: Constraint | null, elsewhere: number | null): void {
    const reason = this.#fault(request) ?? (elsewhere !== null && this.isFull(elsewhere) ? 'queue_full' : null);
    if (reason === null) this.#arrived.push(this.#sequence(request, constraint));
    else {
      constraint?.close();
      this.#reject(request.id, reason);
    }
  }

  /** Rejects a request that was never submitted. */
  reject(event: Omit<RejectedEvent, 'leastFeasibleMs'>): void {
    this.output.rejected.push({ leastFeasibleMs: null, ...event });
  }

  /** Rejects a request whose budget expired before it was submitted. */
  rejectLate(request: EngineRequest, context: StepContext): void {
    const { shape } = this.router;
    const [admission] = this.router.admit([viewOf(this.#sequence(request, null), shape)], stateOf(context, shape));
    this.#reject(request.id, 'budget_infeasible', admission?.kind === 'reject' ? admission.leastFeasibleMs : null);
  }

  /** Ends a request that was never submitted. */
  abandon(request: EngineRequest, reason: CancelReason, at: number): void {
    this.#end(request, reason, at, false);
  }

  #end({ id, prompt }: EngineRequest, reason: EndReason, at: number, isDryRun: boolean): void {
    this.output.ended.push({
      id,
      reason,
      error: null,
      promptTokens: prompt.length,
      cachedTokens: 0,
      preemptions: 0,
      startedAt: null,
      firstTokenAt: null,
      endedAt: at,
      ...(isDryRun && { isDryRun }),
    });
  }

  /** The requests to be decided together: all that arrived, then each dry run by itself, which changes no plan. */
  next(): readonly Sequence[] {
    const real = this.#arrived.filter((sequence) => !isDryRun(sequence));
    return this.#decideNext(real.length > 0 ? real : this.#arrived.slice(0, 1));
  }

  /** Queues or rejects the requests of `next`. @returns those in the queue, and the next ones to be decided */
  decide(admissions: readonly Admission[], now: number): { queued: readonly Sequence[]; next: readonly Sequence[] } {
    const round = this.#deciding;
    const admitted = round.flatMap((sequence, i): Decided[] => {
      const admission = admissions[i];
      if (admission?.kind === 'admit') return [{ sequence, admission }];
      sequence.constraint?.close();
      // Its followers look for another leader.
      sequence.isOver = true;
      this.#reject(sequence.id, 'budget_infeasible', admission?.leastFeasibleMs ?? null, admission?.bestExit ?? null);
      return [];
    });
    const sequences = admitted.map(({ sequence }) => sequence);
    // A plan that counted on the prefix of a rejected request is made again. Each round has fewer requests.
    if (sequences.some(({ leader }) => leader?.sequence.isOver === true && round.includes(leader.sequence)))
      return { queued: [], next: this.#decideNext(sequences) };
    const queued = admitted.filter(({ sequence }) => !isDryRun(sequence));
    for (const each of admitted) if (isDryRun(each.sequence)) this.#preview(each, now);
    for (const each of queued) this.#enqueue(each);
    return { queued: queued.map(({ sequence }) => sequence), next: this.next() };
  }

  /** Reports the plan that a request would get, and ends it. */
  #preview(admitted: Decided, now: number): void {
    this.output.planned.push({ ...plannedEvent(admitted), isDryRun: true });
    this.#end(admitted.sequence.request, 'length', now, true);
  }

  #decideNext(sequences: readonly Sequence[]): readonly Sequence[] {
    sequences.forEach((sequence, i) => {
      this.slotManager.lookUp(sequence, sequences.slice(0, i));
    });
    this.#arrived = this.#arrived.filter((sequence) => !sequences.includes(sequence));
    return (this.#deciding = sequences);
  }

  #enqueue({ sequence, admission }: Decided): void {
    sequence.exit = this.executor.model.exitIndex(admission.exit);
    sequence.admission = admission;
    this.slotManager.enqueue(sequence);
    this.output.planned.push(plannedEvent({ sequence, admission }));
    if (sequence.request.promptLogprobs !== null) this.output.prompts.push({ id: sequence.id, logprobs: [null] });
  }

  #fault({ prompt, maxTokens, prediction }: EngineRequest): RejectedEvent['reason'] | null {
    if (prompt.length === 0 || prompt.length + maxTokens > this.executor.model.limits.capacity) return 'too_long';
    // The gateway checks token ids with better messages. In the engine, an unknown id would crash the process.
    return this.#areKnown(prompt) && this.#areKnown(prediction ?? []) ? null : 'unknown_token';
  }

  /** Whether the embedding has a row for each token. */
  #areKnown(tokens: readonly number[]): boolean {
    const { vocab } = this.executor.model.manifest.architecture;
    return tokens.every((token) => Number.isInteger(token) && token >= 0 && token < vocab);
  }

  #sequence(request: EngineRequest, constraint: Constraint | null): Sequence {
    const { model, units } = this.executor;
    return new Sequence(request, model.exitIndex(request.depth.maxExit), constraint, units.exits);
  }

  #reject(
    id: string,
    reason: RejectedEvent['reason'],
    leastFeasibleMs: number | null = null,
    bestExit: number | null = null,
  ): void {
    this.output.rejected.push({ id, reason, leastFeasibleMs, ...(bestExit !== null && { bestExit }) });
  }
}
