/**
 * The scheduler: requests come in by `add`, `schedule` says all that the next step does, and `commit` takes what the
 * step did. It owns the sequences, and the accounts of slots and KV memory. It runs no model and moves no memory, so
 * the same requests and step times give the same plans: on the engine, and in a simulation.
 *
 * Must not know: token texts, logits, processes, clocks.
 */
import { type CostModel, type DepthShape, rowsMs, type Work } from './cost/model.js';
import { at } from '../../util/at.js';
import type { CostTable } from './cost/table.js';
import { cutAt } from '../../protocol/outcome.js';
import type { EndReason, SequenceRequest } from '../../protocol/index.js';
import { Arrivals, roundsOf } from './arrivals.js';
import { type ChunkLimits, selectChunks, workOf } from './chunks.js';
import type { ConstraintState } from './constraint-state.js';
import { type DraftLimits, Drafts } from './drafts/drafts.js';
import type { SlotTable } from './kv/slot-table.js';
import { exitOfLayer } from './kv/units.js';
import { Nets } from './nets.js';
import { PlanBuilder, PlanRecord } from './plan-builder.js';
import type { Planned } from './types.js';
import { Planner, type Priors, type ServiceOrder } from './planner.js';
import type { Policy } from './policy.js';
import { Sequence } from './sequence.js';
import { SlotManager, type SlotManagerLimits } from './slot-manager.js';
import type { Occupancy } from './snapshot.js';
import type { SequenceEnd, StepPlan, StepResult, TokenResult } from './step-plan.js';
import { landingNets } from './fair-order.js';

export interface SchedulerOptions extends SlotManagerLimits, ChunkLimits {
  readonly policy: Policy;
  readonly shape: DepthShape;
  readonly costs: CostTable;
  readonly priors: Priors;
  /** How many times slower than the costs the machine is at start. */
  readonly slowdown: number;
  readonly drafts: DraftLimits;
}

/** Requests with a budget that a step decides, at most: each takes up to half a millisecond beside 100 others. */
const MOST_DECISIONS = 32;

export class Scheduler {
  readonly slots: SlotManager;
  /** Sequences that sleep. */
  readonly nets = new Nets();
  readonly #planner: Planner;
  readonly #arrivals = new Arrivals();
  readonly #drafts: Drafts;
  readonly #builder: PlanBuilder;

  constructor(
    table: SlotTable,
    readonly options: SchedulerOptions,
  ) {
    const { shape, costs, policy, priors, slowdown } = options;
    this.#planner = new Planner(shape, costs, policy, priors, slowdown);
    this.slots = new SlotManager(table, options, table.isOrdered ? rowsMs(this.#planner.model) : []);
    this.#drafts = new Drafts(options.drafts);
    this.#builder = new PlanBuilder(this.slots, this.#planner, this.#drafts);
  }

  /** Requests that neither run nor wait in the queue yet, and nets that the next step wakes or ends. */
  get arrived(): number {
    return this.#arrivals.count + this.nets.called;
  }

  /** Whether a step has nothing to do. A net may sleep. */
  get isIdle(): boolean {
    const { running, waiting } = this.slots;
    return running.length + waiting.length + this.arrived === 0 && this.nets.prompt === null;
  }

  /** @param elsewhere requests that wait outside of the scheduler @param isNet whether it is for a net */
  isFull(elsewhere: number, isNet = false): boolean {
    return this.slots.isFull(elsewhere + this.#arrivals.queued + (isNet ? this.nets.count : 0));
  }

  /**
   * Takes a request, which the next plan admits or rejects.
   * @param constraint the grammar of its answer. A request whose grammar is not open is rejected.
   * @throws RangeError for a layer that is not an exit
   */
  add(request: SequenceRequest, constraint: ConstraintState | null = null): Sequence {
    const sequence = new Sequence(request, this.slots.table.units.exits, constraint);
    this.slots.lead(sequence);
    this.#arrivals.add(sequence);
    return sequence;
  }

  /** Ends a sequence with the next plan. An unknown id is ignored: its answer may have ended already. */
  cancel(id: string, reason: EndReason): void {
    const sequence = this.find(id);
    if (sequence !== undefined) sequence.ending = reason;
  }

  find(id: string): Sequence | undefined {
    return this.slots.find(id) ?? this.nets.find(id) ?? this.#arrivals.all.find((each) => each.id === id);
  }

  /** All that the next step does. Its decisions are in force when it returns; its work is not done. */
  schedule(now: number): StepPlan {
    const record = new PlanRecord(now);
    if (this.nets.wakesAt <= now) this.#setStarts(now);
    this.#admitArrivals(record);
    this.#endDue(record);
    if (this.nets.isStale(now, record.hasNews)) this.#setStarts(now);
    const asleep = this.arrived > 0 ? null : this.nets.takeChunk(now, this.slots, this.options, this.model);
    if (asleep !== null) return this.#builder.build(record, asleep, new Set());
    for (const each of landingNets(this.slots, this.options.maxRunning)) this.#endNow(record, each, 'deadline');
    const { order, protectedRows } = this.#orderOf(record);
    this.slots.start(order, now, protectedRows);
    this.slots.shareAll(this.options.policy.maxStallMs);
    const { exits, paused, chunks } = this.#planner.decide(this.#occupancy(now));
    for (const [sequence, exit] of exits) sequence.exit = exit;
    this.slots.makeRoom(now);
    const selected = selectChunks(chunks, this.slots, this.model, this.options);
    this.#endOverdue(record, workOf(selected, this.#builder.decoding(selected, paused), this.options.shape));
    const open = selected.filter(({ sequence }) => !sequence.isOver);
    return this.#builder.build(record, open, paused);
  }

  /** Counts what a step did, learns from it, and ends the answers that it completes. */
  commit(plan: StepPlan, result: StepResult): SequenceEnd[] {
    const [row, ...others] = plan.rows;
    const lone = row === undefined || others.length > 0 ? undefined : this.slots.find(row.id);
    const before = lone?.tokens.length ?? NaN;
    this.#moveFrontiers(plan, result);
    const ended = result.tokens.flatMap((each) => this.#take(each, result.at) ?? []);
    this.#learn(plan, result, lone);
    // Positions of a draft beyond what was accepted are computed again.
    if (result.draft !== null) lone?.slot?.truncate(Math.min(before + result.draft.accepted, lone.tokens.length));
    // Requests for the scores of their prompts alone end behind their prompts.
    for (const { id, maxTokens, isDecodable } of this.slots.running)
      if (maxTokens === 0 && isDecodable) ended.push({ id, reason: 'length' });
    for (const end of ended) this.#end(this.slots.find(end.id), end, result.at);
    this.nets.takeBack(this.slots);
    return ended;
  }

  /** Milliseconds until a request that would arrive now has its first token. */
  predictedWaitMs(now: number): number {
    return this.#planner.predictedWaitMs(this.#occupancy(now));
  }

  /** The costs, with their drift. */
  get model(): CostModel {
    return this.#planner.model;
  }

  #occupancy(now: number): Occupancy {
    const { running, waiting, table } = this.slots;
    const { maxRunning: slots, kvBytes } = this.options;
    const kvPositions = kvBytes / table.bytesPerPosition;
    return { now, slots, live: running, waiting, kvPositions, nets: this.nets.all };
  }

  #admitArrivals(record: PlanRecord): void {
    const taken = this.#arrivals.take(MOST_DECISIONS);
    for (const { id, ending } of taken) if (ending !== null) record.ended.push({ id, reason: ending });
    const open = taken.filter(({ ending }) => ending === null);
    for (const first of [this.nets.takeDue(record.at), ...roundsOf(open)])
      if (first.length > 0) this.#admitRound(first, record);
    const real = open.filter(({ isAsleep, isDryRun }) => !isAsleep && !isDryRun);
    this.#planner.observeArrivals(real, this.#occupancy(record.at));
  }

  /** Queues or rejects requests. */
  #admitRound(round: readonly Sequence[], record: PlanRecord): void {
    for (const sequence of round) this.slots.lookUp(sequence);
    const admissions = this.#planner.admit(round, this.#occupancy(record.at));
    for (const [i, sequence] of round.entries()) {
      const admission = admissions[i];
      if (admission === undefined || admission.kind === 'reject' || !sequence.isOpen) {
        sequence.isOver = true;
        record.reject(sequence, admission?.kind === 'reject' ? admission : undefined);
      } else if (admission.kind === 'arm') {
        record.arm(sequence, admission);
        this.nets.sleep(sequence, admission.latestStart);
      } else {
        record.admit(sequence, admission);
        if (!sequence.isDryRun) this.#enqueue(sequence, admission);
      }
    }
  }

  #enqueue(sequence: Sequence, admission: Planned): void {
    sequence.exit = exitOfLayer(this.slots.table.units.exits, admission.exit);
    sequence.serviceClass = admission.serviceClass;
    sequence.expectedTokens = admission.expectedTokens;
    sequence.promisedTokens = admission.serviceClass === 'guaranteed' ? admission.guaranteedTokens : null;
    this.slots.waiting.push(sequence);
  }

  /** Sets the latest starts of nets, by all that are here. */
  #setStarts(now: number): void {
    this.nets.setStarts(this.#planner.latestStarts(this.#occupancy(now)), now);
  }

  /** Ends every sequence that is cancelled, or whose grammar failed or is complete. */
  #endDue(record: PlanRecord): void {
    for (const sequence of this.#all()) {
      const { ending, constraint } = sequence;
      if (ending !== null) this.#endNow(record, sequence, ending);
      else if (constraint?.failed != null) this.#endNow(record, sequence, 'error');
      else if (constraint?.complete === true) this.#endNow(record, sequence, 'stop');
    }
  }

  /** The order of the waiting. Requests that wait beyond the time for a sentence are rejected. */
  #orderOf(record: PlanRecord): ServiceOrder {
    const order = this.#planner.serviceOrder(this.#occupancy(record.at));
    for (const sequence of order.hopeless) {
      record.reject(sequence);
      this.#end(sequence, { id: sequence.id, reason: 'deadline' }, record.at);
    }
    return order;
  }

  /** Ends answers that would pass their deadlines in a step. */
  #endOverdue(record: PlanRecord, work: Work): void {
    const endsAt = this.#planner.endsAt(record.at, work);
    for (const sequence of this.#all()) if (cutAt(sequence) < endsAt) this.#endNow(record, sequence, 'deadline');
  }

  #endNow(record: PlanRecord, sequence: Sequence, reason: EndReason): void {
    const end = { id: sequence.id, reason };
    record.ended.push(end);
    this.#end(sequence, end, record.at);
  }

  /** Moves the frontiers behind the work of a step. */
  #moveFrontiers({ chunks, rows }: StepPlan, { draft }: StepResult): void {
    const drafted = draft?.drafted ?? 0;
    const { slots, units } = this.slots.table;
    const ends = rows.map(({ slot, exit }) => ({ slot, exit, end: at(slots, slot).tokens.length + drafted }));
    for (const { slot: index, exit, end } of [...chunks, ...ends]) {
      const slot = at(slots, index);
      for (const unit of at(units.exits, exit).needed) if (slot.frontier(unit) < end) slot.reach(unit, end);
    }
  }

  /** Appends a token to its sequence. @returns the end of the answer, if that is it */
  #take({ id, token, isEnd, hasLanded = false, mayEnd }: TokenResult, at: number): SequenceEnd | null {
    const sequence = this.slots.find(id);
    if (sequence === undefined) return null;
    sequence.firstTokenAt ??= at;
    sequence.lastTokenAt = at;
    if (isEnd) return { id, reason: 'stop', hasLanded };
    sequence.tokens.push(token);
    if (mayEnd !== null) sequence.sentence.read(mayEnd);
    return sequence.generated >= sequence.maxTokens ? { id, reason: 'length' } : null;
  }

  /** Learns the time of a step. Plans count on plain steps, so the costs learn nothing of a draft. */
  #learn({ chunks, rows, work, draft: planned, predictedMs }: StepPlan, result: StepResult, lone?: Sequence): void {
    const { cycleMs, draft, tokens } = result;
    if (draft === null && chunks.length + rows.length > 0) this.#planner.observeStep(work, result);
    if (draft === null || planned === null || lone === undefined) return;
    const given = Math.max(1, tokens.filter(({ isEnd }) => !isEnd).length);
    const count = { source: planned.source, ...draft };
    this.#drafts.observe(lone, count, given * predictedMs, chunks.length === 0 ? cycleMs : null);
  }

  #end(sequence: Sequence | undefined, { reason, hasLanded }: SequenceEnd, at: number): void {
    if (sequence === undefined) return;
    this.nets.remove(sequence);
    this.slots.finish(sequence);
    const isEarly = reason === 'deadline' || reason === 'cancelled' || reason === 'error';
    this.#planner.observeEnd(sequence, at, hasLanded === true ? 'landed' : isEarly ? reason : 'ended');
  }

  #all(): Sequence[] {
    return [...this.slots.running, ...this.slots.waiting, ...this.nets.all];
  }
}
