/**
 * Ends sequences: by their client, their grammar, their deadline, or their last token.
 *
 * Must not know: how a step runs.
 */
import { type Auditor, skipped } from '../audit/auditor.js';
import type { Executor } from '../execution/executor.js';
import type { AuditEvent, EndedEvent, EndReason } from '../../protocol/index.js';
import type { AnswerEnd, Router } from '../../scheduler/router.js';
import type { Sequence } from '../../scheduler/sequence.js';
import type { SlotManager } from '../../scheduler/slot-manager.js';
import type { StepOutput } from './step-output.js';
import { viewOf } from './views.js';

/** The end token as an end event reports it. */
type LastToken = Pick<EndedEvent, 'endToken' | 'landed'>;

/** The end of an answer in the router's terms. */
function endOf(reason: Exclude<EndReason, 'error'>, hasLanded: boolean): AnswerEnd {
  if (hasLanded) return 'landed';
  if (reason === 'deadline' || reason === 'cancelled') return reason;
  return 'ended';
}

export class Endings {
  readonly #unaudited: AuditEvent[] = [];

  constructor(
    private readonly executor: Executor,
    private readonly slotManager: SlotManager,
    private readonly router: Router,
    private readonly output: StepOutput,
    /** Null without audits: clients that wait for one get a reason. */
    private readonly auditor: Auditor | null,
  ) {}

  /** Audits that ended since the last call. */
  takeAudits(): AuditEvent[] {
    return this.auditor?.take() ?? this.#unaudited.splice(0);
  }

  /** Ends every sequence that is cancelled, or whose grammar failed or is complete. */
  endDue(now: number): void {
    for (const sequence of this.#all()) {
      if (sequence.ending) this.end(sequence, sequence.ending, now);
      else if (sequence.constraint?.failed != null) this.end(sequence, 'error', now);
      else if (sequence.constraint?.complete === true) this.end(sequence, 'stop', now);
    }
  }

  /** Ends answers at their deadlines. */
  endAtDeadline(ids: readonly string[], now: number): void {
    for (const sequence of this.#all()) if (ids.includes(sequence.id)) this.end(sequence, 'deadline', now);
  }

  /** Ends requests that asked for prompt scores only. */
  endScored(at: number): void {
    for (const sequence of [...this.slotManager.running])
      if (sequence.request.maxTokens === 0 && sequence.isDecodable(this.executor.exit(sequence.exit).needed))
        this.end(sequence, 'length', at);
  }

  end(sequence: Sequence, reason: EndReason, at: number, last: LastToken = {}): void {
    const { slot } = sequence;
    this.slotManager.finish(sequence);
    if (this.auditor !== null) this.auditor.ended(sequence, slot, reason, at);
    else if (sequence.request.audit === true) this.#unaudited.push(skipped(sequence, 'off'));
    sequence.constraint?.close();
    const failure = reason === 'error' ? sequence.constraint?.failed : null;
    const router = this.router;
    if (reason !== 'error')
      router.observeEnd(viewOf(sequence, router.shape), at, endOf(reason, last.landed !== undefined));
    this.output.ended.push({
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
    });
  }

  #all(): Sequence[] {
    return [...this.slotManager.running, ...this.slotManager.waiting];
  }
}
