/**
 * Requests on their way into the core. Requests with a grammar wait until it is compiled, cancelled, or out of budget.
 *
 * Must not know: processes, steps.
 */
import { monotonicMs, timerUntil } from '../../util/clock.js';
import { isCutAtDeadline } from '../../protocol/outcome.js';
import type { EngineCore } from './core.js';
import { GrammarError } from '../grammar/errors.js';
import type { Grammars } from '../grammar/grammars.js';
import type { CancelReason, SequenceRequest, Grammar } from '../../protocol/index.js';

/** A request whose grammar is being compiled. */
interface Opening {
  readonly request: SequenceRequest;
  /** Fires when the budget expires. */
  readonly timer: NodeJS.Timeout | null;
}

export class GrammarQueue {
  readonly #opening = new Map<string, Opening>();

  /** @param changed called when the core has new work */
  constructor(
    private readonly core: EngineCore,
    private readonly grammars: Grammars,
    private readonly changed: () => void,
  ) {}

  generate(request: SequenceRequest): void {
    const isWithout = request.maxTokens === 0 || request.isDryRun === true;
    const grammar = isWithout ? null : (request.grammar ?? null);
    if (grammar === null) this.core.submit(request, null, this.#opening.size);
    else if (this.core.isFull(this.#opening.size)) this.core.reject({ id: request.id, reason: 'queue_full' });
    else if (this.#isHopeless(request)) this.core.reject({ id: request.id, reason: 'budget_infeasible' });
    else void this.#open(request, grammar);
  }

  /** Requests that wait here, outside the core's queue. */
  get waiting(): number {
    return this.#opening.size;
  }

  cancel(id: string, reason: CancelReason): void {
    this.#giveUp(id);
    this.core.cancel(id, reason);
  }

  /** Hands a request to the core without its grammar: the next plan rejects it with the least budget, or ends it. */
  #giveUp(id: string): void {
    const request = this.#take(id);
    if (request === null) return;
    this.grammars.abandon(id);
    this.core.submit(request, null, null);
  }

  async #open(request: SequenceRequest, grammar: Grammar): Promise<void> {
    const { id, stopTokens, tenant = '' } = request;
    this.#opening.set(id, { request, timer: this.#timer(request) });
    try {
      const constraint = await this.grammars.open(id, grammar, stopTokens, tenant);
      if (this.#take(id) === null) constraint.close();
      // Null: the request already has a place in the queue.
      else this.core.submit(request, constraint, null);
    } catch (error) {
      // Null: its end was already reported.
      if (this.#take(id) === null) return;
      const detail = error instanceof Error ? error.message : String(error);
      if (error instanceof GrammarError) this.core.reject({ id, reason: 'grammar', detail, part: error.part });
      else this.core.reject({ id, reason: 'grammars_lost', detail });
    }
    this.changed();
  }

  /** Removes a request; null if it does not wait here. */
  #take(id: string): SequenceRequest | null {
    const opening = this.#opening.get(id);
    if (opening === undefined) return null;
    this.#opening.delete(id);
    if (opening.timer !== null) clearTimeout(opening.timer);
    return opening.request;
  }

  /** Ends the wait when the budget expires. The core enforces budgets only after `submit`. */
  #timer(request: SequenceRequest): NodeJS.Timeout | null {
    const { id, depth } = request;
    const until = waitEnd(request);
    if (until === Infinity) return null;
    const end = (): void => {
      if (depth.budget?.onMiss === 'reject') this.#giveUp(id);
      else this.cancel(id, 'deadline');
      this.changed();
    };
    return setTimeout(end, timerUntil(until)).unref();
  }

  /** Whether a `reject` request is expected to wait for a parser until its budget is over. */
  #isHopeless(request: SequenceRequest): boolean {
    if (request.depth.budget?.onMiss !== 'reject') return false;
    const now = monotonicMs();
    return now + this.grammars.expectedWaitMs(request.tenant ?? '', now) >= waitEnd(request);
  }
}

/** When a request ends whose grammar is not open; Infinity for one that waits on. */
function waitEnd(request: SequenceRequest): number {
  const { arrivedAt, depth } = request;
  const { budget } = depth;
  const isRejected = budget?.onMiss === 'reject';
  const totalMs = isRejected || isCutAtDeadline(request) ? (budget?.totalMs ?? Infinity) : Infinity;
  return arrivedAt + Math.min(totalMs, isRejected ? (budget.ttftMs ?? Infinity) : Infinity);
}
