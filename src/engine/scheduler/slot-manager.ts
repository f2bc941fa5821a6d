/**
 * Gives slots to sequences: starts from the queue, prefix reuse, eviction and preemption within the KV budget. Tenants
 * share the slots (fair-order.ts).
 *
 * Must not know: costs, exits that are to be chosen.
 */
import { COPY_BYTES_PER_MS, Placement } from './placement.js';
import { brings, findPrefix, type PrefixMatch } from './kv/prefix.js';
import type { Sequence } from './sequence.js';
import type { Slot } from './kv/units.js';
import type { SlotTable } from './kv/slot-table.js';
import { FairOrder, yielded } from './fair-order.js';

export interface SlotManagerLimits {
  readonly maxRunning: number;
  /** Most waiting requests, without preempted ones. */
  readonly maxQueue: number;
  readonly kvBytes: number;
  readonly prefixReuse: boolean;
}

export class SlotManager {
  /** Sequences with a slot, in order of admission. */
  readonly running: Sequence[] = [];
  readonly waiting: Sequence[] = [];
  readonly #placement: Placement;
  readonly #fair = new FairOrder();
  /** Start of the present step. */
  #now = 0;

  /** @param rowMs milliseconds of a row by trunk stage; empty where rows may lie anywhere */
  constructor(
    readonly table: SlotTable,
    readonly limits: SlotManagerLimits,
    rowMs: readonly number[] = [],
  ) {
    this.#placement = new Placement(table, rowMs);
  }

  /** Adds a sequence without a check; see `isFull`. */
  enqueue(sequence: Sequence): void {
    this.waiting.push(sequence);
  }

  /** @param elsewhere requests that wait outside this queue */
  isFull(elsewhere = 0): boolean {
    const queued = this.waiting.filter(({ preemptions }) => preemptions === 0).length;
    return queued + elsewhere >= this.limits.maxQueue + this.freeSlots;
  }

  find(id: string): Sequence | undefined {
    return this.running.find((each) => each.id === id) ?? this.waiting.find((each) => each.id === id);
  }

  get freeSlots(): number {
    return Math.max(0, this.limits.maxRunning - this.running.length);
  }

  /** Bytes that live sequences need up to their next position, with their whole prompts. */
  get demand(): number {
    return this.table.demand(this.running);
  }

  /** Bytes of the budget that no live sequence needs. */
  get freeBytes(): number {
    return Math.max(0, this.limits.kvBytes - this.demand);
  }

  /** Finds the stored prefix of a sequence without a slot, for plans that are made before it gets one. */
  lookUp(sequence: Sequence): void {
    const match = this.#match(sequence);
    sequence.prefix = match && { slot: match.slot, tokens: match.slot.tokens, length: match.length };
  }

  /** Links a choice to the first one of its answer that is here. They share their prompt by reference. */
  lead(sequence: Sequence, others: readonly Sequence[]): void {
    const isChoice = ({ request }: Sequence): boolean => request.prompt === sequence.request.prompt;
    sequence.leader = this.#reuses(sequence) && !sequence.isDryRun ? (others.find(isChoice) ?? null) : null;
  }

  /**
   * Starts waiting sequences while slots and memory last, and for promises in place of others: in an order of service,
   * which the tenants share.
   * @param ordered all waiting sequences in order of service
   * @param protectedRows running sequences without a promise that no promise preempts, oldest first
   */
  start(ordered: readonly Sequence[], now: number, protectedRows = 0): void {
    this.#now = now;
    this.waiting.splice(0, this.waiting.length, ...this.#fair.order(ordered, now));
    for (;;) {
      const [sequence] = this.waiting;
      if (!sequence) break;
      const need = this.table.bytesOf(sequence.tokens.length + 1);
      const isAlone = this.running.length === 0;
      if (this.running.length >= this.limits.maxRunning || (need > this.freeBytes && !isAlone)) {
        if (!this.#preemptForShare(protectedRows)) break;
        continue;
      }
      this.waiting.shift();
      const prefix = this.#match(sequence);
      if (prefix !== null) this.table.touch(prefix.slot);
      const slot = this.#placement.place(sequence, prefix, this.running);
      sequence.prefix = null;
      if (sequence.preemptions === 0) sequence.cachedTokens = slot.length;
      sequence.startedAt ??= now;
      this.running.push(sequence);
      this.#fair.started(sequence);
      this.#evict();
    }
  }

  /** Gives a sequence that sleeps a slot for one chunk of its prompt. No sequence runs. */
  lend(sequence: Sequence): void {
    const match = this.#match(sequence);
    if (match !== null) this.table.touch(match.slot);
    this.#placement.place(sequence, match, []);
    this.#evictTo(this.limits.kvBytes - this.table.demand([sequence]));
  }

  /** Takes the slot back. Its positions stay, as a prefix that the sequence finds when it wakes. */
  takeBack(sequence: Sequence): void {
    const { slot } = sequence;
    sequence.slot = null;
    if (slot !== null) this.#store(slot);
    this.lookUp(sequence);
  }

  /** Whether other prompts are to compute positions for a prompt as well. */
  awaits(sequence: Sequence, others: readonly Sequence[]): boolean {
    return sequence.isPrompt && this.#reuses(sequence) && others.some((each) => brings(each, sequence));
  }

  /** Copies to prompts what others have computed for them, while the step has time beside the first copy. */
  shareAll(maxStallMs: number): void {
    for (const sequence of this.waiting) {
      if (sequence.leader?.isOver !== true) continue;
      sequence.leader = null;
      this.lookUp(sequence);
    }
    let copyMs = 0;
    for (const [i, sequence] of this.running.entries())
      if (copyMs <= maxStallMs && !this.awaits(sequence, this.running.slice(0, i)))
        copyMs += this.share(sequence) / COPY_BYTES_PER_MS;
  }

  /** Copies to a prompt the positions that others have processed since it got its slot. @returns bytes of the copy */
  share(sequence: Sequence): number {
    const { slot } = sequence;
    const match = slot && sequence.isPrompt ? this.#match(sequence) : null;
    if (!slot || !match) return 0;
    const before = slot.length;
    this.table.touch(match.slot);
    this.table.copyPrefix(match.slot, slot, match.length);
    if (sequence.preemptions === 0) sequence.cachedTokens += slot.length - before;
    this.#evict();
    return this.table.bytesOf(slot.length - before);
  }

  /**
   * Frees memory for the next step: preempts the newest sequences while the live ones need too much, then evicts. A
   * sequence with a promise is preempted last. The memory of ended sequences stays with their slots up to the budget.
   */
  makeRoom(): void {
    while (this.demand > this.limits.kvBytes && this.running.length > 1) {
      const unpromised = this.running.filter((each) => !each.isPromisedAt(this.#now));
      const candidates = unpromised.length > 0 ? unpromised : this.running;
      const newest = candidates.reduce((a, b) => (b.arrivedAt >= a.arrivedAt ? b : a));
      const slot = this.#preempt(newest);
      if (slot !== null) this.table.drop(slot);
      this.waiting.unshift(newest);
    }
    this.#evict();
    this.table.giveBack(this.limits.kvBytes);
  }

  /** Moves a sequence into a gap of the batch, where that pays off. */
  closeGap(): void {
    this.#placement.closeGap(this.running);
  }

  /** Ends a sequence; its slot stays as a reusable prefix. */
  finish(sequence: Sequence): void {
    if (this.running.includes(sequence)) this.#leave(sequence);
    const queued = this.waiting.indexOf(sequence);
    if (queued >= 0) this.waiting.splice(queued, 1);
    const { slot } = sequence;
    sequence.slot = null;
    sequence.isOver = true;
    if (slot) this.#store(slot);
  }

  /** Keeps the contents of a slot as a reusable prefix. */
  #store(slot: Slot): void {
    slot.live = false;
    this.table.touch(slot);
    if (!this.limits.prefixReuse || slot.length === 0) this.table.drop(slot);
  }

  /**
   * Preempts a sequence for a waiting one, which becomes the first. The slot of the preempted one stays as a prefix,
   * from which it goes on later.
   */
  #preemptForShare(protectedRows: number): boolean {
    const found = yielded(this, { slots: this.limits.maxRunning, protectedRows, now: this.#now });
    if (found === null) return false;
    const { next, victim } = found;
    const slot = this.#preempt(victim);
    if (slot !== null) this.#store(slot);
    this.waiting.splice(this.waiting.indexOf(next), 1);
    this.waiting.unshift(next);
    this.waiting.push(victim);
    this.lookUp(victim);
    return true;
  }

  /** Takes a sequence out of the running ones. */
  #leave(sequence: Sequence): void {
    this.running.splice(this.running.indexOf(sequence), 1);
    this.#fair.left(sequence);
    // It has one token left, at least, where it goes on.
    sequence.expectedTokens = Math.max(sequence.expectedTokens, sequence.generated + 1);
  }

  /** Takes the slot of a running sequence. The caller gives the sequence its place in the queue. */
  #preempt(sequence: Sequence): Slot | null {
    const { slot } = sequence;
    this.#leave(sequence);
    sequence.slot = null;
    sequence.preemptions++;
    return slot;
  }

  /** Evicts stored prefixes until they fit beside the live sequences. */
  #evict(): void {
    this.#evictTo(this.limits.kvBytes - this.demand);
  }

  #evictTo(room: number): void {
    while (this.table.used('cached') > room && this.table.evict());
  }

  #match(sequence: Sequence): PrefixMatch | null {
    if (!this.#reuses(sequence)) return null;
    const { tokens, needed, slot, request } = sequence;
    // A slot of another space stays invisible: its match would show a client the text of another one.
    const slots = this.table.slots.filter(({ space }) => space === request.prefixSpace);
    return findPrefix(tokens, slots, needed, slot, this.table.granularity);
  }

  #reuses({ request }: Sequence): boolean {
    return this.limits.prefixReuse && request.promptLogprobs === null;
  }
}
