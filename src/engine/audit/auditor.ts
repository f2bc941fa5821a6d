/**
 * Audits ended answers from exits below full depth: one prefill of the answer at full depth, a chunk at a time.
 *
 * Knows: its own slot, the answers that wait. Must not know: requests that run, processes.
 *
 * An audit runs in a slot of its own, with a copy of the prompt's kept states. Deeper stages catch up over them. So an
 * audit changes no other slot, and ends without a trace. Sequences that need the memory evict it first.
 */
import type { Gate } from '../model/gate.js';
import type { States } from '../model/head.js';
import type { Executor } from '../execution/executor.js';
import { type Chunk, chunksOnly } from '../execution/step-batch.js';
import { chunkEnd } from '../scheduler/chunks.js';
import type { AuditEvent, AuditSkip, EndReason, ExitIndex } from '../../protocol/index.js';
import type { AuditOptions } from '../../protocol/engine-options.js';
import type { Answer } from '../answer.js';
import type { Slot } from '../scheduler/kv/slot.js';
import type { SlotManager } from '../scheduler/slot-manager.js';
import { type AuditJob, jobOf, skipOf } from './job.js';
import { addGates, gatesOf, gateStops } from './gates.js';
import { auditedTokens, type Probed, probedTokens } from './score.js';

/** Most positions of a chunk. A request that arrives waits for one: 25 ms at full depth of the embedded model. */
const CHUNK = 32;
/** Positions of the prompt that are computed again: prefill of one position rounds differently. */
const LEAST_POSITIONS = 3;
/** Most answers that wait; the oldest is left out. */
const MOST_WAITING = 64;
/** Time after which an answer that waits is left out. */
const STALE_MS = 60_000;
/** Idle time before the first chunk: the next request of the same client may follow. No wait if the client asked. */
const IDLE_MS = 200;
/** Most engine time of an audit: full depth of the embedded model prefills its whole context in 10 s on 2 cores. */
const MOST_MS = 20_000;
/** Largest share of the KV memory that an audit takes. */
const MEMORY_SHARE = 0.25;
/** No sequence has this prefix space, so no prompt shares the slot's contents. */
const SPACE = '\u0000audit';

export class Auditor {
  /** The audit in progress, then the others in order. */
  #jobs: AuditJob[] = [];
  #finished: AuditEvent[] = [];
  #nextProbe = 0;
  /** When the share beside requests allows the next chunk. */
  #dueAt = -Infinity;
  #idleSince: number | null = null;
  readonly #slot: Slot;
  readonly #deepest: ExitIndex;
  readonly #gate: Gate | null;

  constructor(
    private readonly executor: Executor,
    private readonly slotManager: SlotManager,
    private readonly options: AuditOptions,
    private readonly clock: () => number,
  ) {
    this.#gate = executor.model.gate;
    this.#slot = executor.table.reserve();
    this.#deepest = executor.units.deepest;
  }

  /** Takes an answer that has ended. */
  ended(answer: Answer, reason: EndReason, now: number): void {
    this.#idleSince = null;
    const skip = skipOf(answer, reason, this.#deepest);
    if (skip !== null) {
      this.#finished.push(skipped(answer, skip));
      return;
    }
    // Text that a client's bias wrote says nothing about the exits: it would move the estimates at will.
    const isProbed = this.#deepest > 0 && answer.request.sampling.logitBias.length === 0;
    const probe = isProbed ? this.#nextProbe++ % this.#deepest : null;
    const job = jobOf(answer.sequence, now, probe);
    // The audit in progress goes on. Next come the answers whose clients wait.
    const rest = this.#jobs.splice(1);
    const asked = rest.findIndex(({ request }) => request.audit !== true);
    rest.splice(job.request.audit === true && asked >= 0 ? asked : rest.length, 0, job);
    this.#jobs.push(...rest);
    const oldest = this.#jobs.findIndex(({ request }, i) => i > 0 && request.audit !== true);
    if (this.#jobs.length > MOST_WAITING) this.#leaveOut(this.#jobs[Math.max(1, oldest)], 'queue');
  }

  /** Audits that ended since the last call, or were skipped. */
  take(): AuditEvent[] {
    return this.#finished.splice(0);
  }

  /**
   * Milliseconds until the next chunk may run: 0 is immediately, Infinity never.
   * @param isIdle whether no request runs or waits
   */
  delayMs(isIdle: boolean): number {
    const now = this.clock();
    for (const job of this.#jobs.filter(({ endedAt }) => now - endedAt > STALE_MS)) this.#leaveOut(job, 'stale');
    if (!isIdle) this.#idleSince = null;
    const [job] = this.#jobs;
    if (job === undefined || (!isIdle && this.options.busyShare === 0)) return Infinity;
    if (!isIdle || job.request.audit === true) return Math.max(0, this.#dueAt - now);
    this.#idleSince ??= now;
    return Math.max(0, this.#dueAt - now, this.#idleSince + IDLE_MS - now);
  }

  /** Runs one chunk of the first audit. */
  step(isIdle: boolean): void {
    const [job] = this.#jobs;
    if (job === undefined) return;
    const startedAt = this.clock();
    const isInSlot = this.#isInSlot(job) || this.#begin(job);
    const isComplete = isInSlot && this.#advance(job);
    const now = this.clock();
    job.ms += now - startedAt;
    if (isComplete) this.#finish(job);
    else if (!isInSlot) this.#leaveOut(job, 'memory');
    else if (job.ms > MOST_MS) this.#leaveOut(job, 'time');
    if (!isIdle) this.#dueAt = startedAt + (now - startedAt) / this.options.busyShare;
  }

  #isInSlot(job: AuditJob): boolean {
    return this.#slot.tokens === job.tokens;
  }

  /** Fills the slot with the prompt's kept states. @returns whether there is room; false after an eviction as well */
  #begin(job: AuditJob): boolean {
    if (job.isBegun) return false;
    job.isBegun = true;
    const { table } = this.executor;
    const exits = job.probe === null ? [this.#deepest] : [this.#deepest, job.probe];
    const bytes = exits.reduce((sum, exit) => sum + table.bytesAt(exit, job.tokens.length), 0);
    const most = this.slotManager.limits.kvBytes * MEMORY_SHARE;
    table.drop(this.#slot);
    if (bytes > most || !this.slotManager.makeRoomFor(bytes)) return false;
    const { source, tokens } = job;
    if (source?.tokens === tokens && !source.live) {
      table.copyPrefix(source, this.#slot, Math.min(source.length, this.#answerStart(job)));
    }
    this.#slot.tokens = tokens;
    this.#slot.space = SPACE;
    return true;
  }

  /** First position that is computed for the answer. */
  #answerStart({ promptLength }: AuditJob): number {
    return Math.max(0, promptLength - LEAST_POSITIONS);
  }

  /** @returns whether the audit is complete */
  #advance(job: AuditJob): boolean {
    const exits = job.probe === null ? [this.#deepest] : [job.probe, this.#deepest];
    const from = this.#answerStart(job);
    const chunk = Math.min(CHUNK, this.executor.model.limits.maxChunk);
    const frontier = (exit: ExitIndex): number => this.#slot.least(this.executor.exit(exit).needed);
    // First the prompt, which the deeper stages lack, and the probed exit's block.
    const behind = exits.find((exit) => from - frontier(exit) > 1);
    if (behind !== undefined) {
      this.#run(behind, chunkEnd(frontier(behind), chunk, from));
      return false;
    }
    const target = job.tokens.length - 1;
    const end = chunkEnd(Math.min(...exits.map(frontier)), chunk, target);
    this.#score(job, end);
    return end >= target;
  }

  /** Runs up to a position and scores the answer's tokens up to it. */
  #score(job: AuditJob, end: number): void {
    const { probe, promptLength } = job;
    const rangeOf = ({ start, end }: States) => [Math.max(start, promptLength - 1), end] as const;
    let probed: readonly Probed[] = [];
    const stops: number[][] = [];
    for (const index of this.#scored(probe))
      this.#run(index, end, (states) => {
        const range = rangeOf(states);
        if (this.#gate !== null) stops.push(gateStops(this.#gate, states, range));
        if (index === probe) probed = probedTokens(this.executor, job, states, range);
      });
    if (stops.length === this.#deepest) addGates(job, stops);
    this.#run(this.#deepest, end, (states) => {
      const audited = auditedTokens(this.executor, job, states, rangeOf(states), probed);
      job.audited.push(...audited.filter(({ index }) => job.exits[index] !== this.#deepest));
    });
  }

  /** Runs the audit's slot up to a position at an exit. */
  #run(exit: ExitIndex, end: number, read?: Chunk['read']): void {
    this.executor.run(chunksOnly({ slot: this.#slot, exit: this.executor.exit(exit), end, read }));
  }

  /** Exits below full depth whose states are read: those of all loops for a gate, which no block interrupts. */
  #scored(probe: ExitIndex | null): ExitIndex[] {
    if (this.#gate !== null) return Array.from({ length: this.#deepest }, (_, index) => index);
    return probe === null ? [] : [probe];
  }

  #finish(job: AuditJob): void {
    this.#remove(job);
    const { id, request, audited, probed: tokens, agreeing, ms } = job;
    const kl = job.compared === 0 ? null : job.kl / job.compared;
    const probe = job.probe === null ? null : { exit: this.executor.exit(job.probe).layer, tokens, agreeing, kl };
    const { lengthGroup } = request;
    this.#finished.push({ id, lengthGroup, skipped: null, tokens: audited, probe, ...gatesOf(job), ms });
  }

  #leaveOut(job: AuditJob | undefined, reason: AuditSkip): void {
    if (job === undefined) return;
    this.#remove(job);
    this.#finished.push(skipped(job, reason));
  }

  #remove(job: AuditJob): void {
    if (this.#isInSlot(job)) this.executor.table.drop(this.#slot);
    this.#jobs = this.#jobs.filter((each) => each !== job);
  }
}

/** The audit of an answer that is left out. */
export function skipped({ id, request }: Pick<Answer, 'id' | 'request'>, reason: AuditSkip): AuditEvent {
  return { id, lengthGroup: request.lengthGroup, skipped: reason, tokens: [], probe: null, ms: 0 };
}
