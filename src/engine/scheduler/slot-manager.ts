/**
 * Gives slots to sequences: starts from the queue, prefix reuse, eviction and preemption within the KV budget. Tenants
 * share the slots (fair-order.ts).
 *
 * Must not know: costs, exits that are to be chosen.
 */
import type { EngineOptions } from '../../protocol/engine-options.js';
import { COPY_BYTES_PER_MS, Placement } from './placement.js';
import { brings, findPrefix, type Prefix } from './kv/prefix.js';
import type { Sequence } from './sequence.js';
import type { Slot } from './kv/units.js';
import type { SlotTable } from './kv/slot-table.js';
import { FairOrder, yielded } from './fair-order.js';

export interface SlotManagerLimits extends Pick<EngineOptions, 'maxRunning' | 'maxQueue' | 'prefixReuse'> {
  readonly kvBytes: number;
}

export class SlotManager {
  /** Sequences with a slot, in order of admission. */
  readonly running: Sequence[] = [];
  readonly waiting: Sequence[] = [];
  readonly placement: Placement;
  readonly #fair = new FairOrder();
  /** The first choice of each answer, by the prompt that its choices share by reference. */
  readonly #firsts = new WeakMap<readonly number[], Sequence>();

  /** @param rowMs milliseconds of a row by trunk stage; empty where rows may lie anywhere */
  constructor(
    readonly table: SlotTable,
    readonly limits: SlotManagerLimits,
    rowMs: readonly number[] = [],
  ) {
    this.placement = new Placement(table, rowMs);
  }

  /** Whether the queue takes no further request. @param elsewhere requests that wait outside this queue */
  isFull(elsewhere = 0): boolean {
    const { maxQueue, maxRunning } = this.limits;
    const queued = this.waiting.filter(({ preemptions }) => preemptions === 0).length;
    return queued + elsewhere >= maxQueue + Math.max(0, maxRunning - this.running.length);
  }

  find(id: string): Sequence | undefined {
    return this.running.find((each) => each.id === id) ?? this.waiting.find((each) => each.id === id);
  }

  /** Bytes of the budget that live sequences do not need; negative where they need more. */
  freeBytes(live: readonly Sequence[] = this.running): number {
    return this.limits.kvBytes - this.table.demand(live);
  }

  /** Finds the stored prefix of a sequence without a slot, for plans that are made before it gets one. */
  lookUp(sequence: Sequence): void {
    sequence.prefix = this.#match(sequence);
  }

  /** Links a choice to the first one of its answer that is here. */
  lead(sequence: Sequence): void {
    if (!this.#reuses(sequence) || sequence.isDryRun) return;
    const first = this.#firsts.get(sequence.request.prompt);
    if (first?.isOver === false && first.ending === null) sequence.leader = first;
    else this.#firsts.set(sequence.request.prompt, sequence);
  }

  /**
   * Starts waiting sequences while slots and memory last, and for promises in place of others: in an order of service,
   * which the tenants share.
   * @param ordered all waiting sequences in order of service
   * @param protectedRows running sequences without a promise that no promise preempts, oldest first
   */
  start(ordered: readonly Sequence[], now: number, protectedRows = 0): void {
    this.waiting.splice(0, this.waiting.length, ...this.#fair.order(ordered, now));
    for (let next = this.waiting.at(0); next !== undefined; next = this.waiting.at(0)) {
      const fits = this.running.length === 0 || this.table.bytesOf(next.tokens.length + 1) <= this.freeBytes();
      if (!fits || this.running.length >= this.limits.maxRunning) {
        const found = yielded(this, { slots: this.limits.maxRunning, protectedRows, now });
        if (found === null) break;
        this.#preempt(found.victim);
        remove(this.waiting, found.next);
        this.waiting.unshift(found.next);
        continue;
      }
      this.waiting.shift();
      const slot = this.#place(next);
      if (next.preemptions === 0) next.cachedTokens = slot.length;
      next.startedAt ??= now;
      this.running.push(next);
      this.#fair.started(next);
      this.#evict();
    }
  }

  /** Gives a sequence that sleeps a slot for one chunk of its prompt. No sequence runs. */
  lend(sequence: Sequence): void {
    this.#place(sequence);
    this.#evict([sequence]);
  }

  /** Takes the slot back. Its positions stay, as a prefix that the sequence finds when it goes on. */
  takeBack(sequence: Sequence): void {
    this.#release(sequence);
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
  makeRoom(now: number): void {
    while (this.freeBytes() < 0 && this.running.length > 1) {
      const unpromised = this.running.filter((each) => !each.isPromisedAt(now));
      const candidates = unpromised.length > 0 ? unpromised : this.running;
      this.#preempt(candidates.reduce((a, b) => (b.arrivedAt >= a.arrivedAt ? b : a)));
    }
    this.#evict();
    this.table.giveBack(this.limits.kvBytes);
  }

  /** Ends a sequence; its slot stays as a reusable prefix. */
  finish(sequence: Sequence): void {
    this.#leave(sequence);
    remove(this.waiting, sequence);
    this.#release(sequence);
    sequence.isOver = true;
  }

  /** Takes the slot of a running sequence, which waits again. It goes on from the prefix that stays there. */
  #preempt(sequence: Sequence): void {
    this.#leave(sequence);
    sequence.preemptions++;
    this.takeBack(sequence);
    this.waiting.push(sequence);
  }

  /** Takes a sequence out of the running ones. */
  #leave(sequence: Sequence): void {
    if (!remove(this.running, sequence)) return;
    this.#fair.left(sequence);
    // It has one token left, at least, where it goes on.
    sequence.expectedTokens = Math.max(sequence.expectedTokens, sequence.generated + 1);
  }

  /** Gives a sequence a slot, with the prefix that it finds. */
  #place(sequence: Sequence): Slot {
    const prefix = this.#match(sequence);
    if (prefix !== null) this.table.touch(prefix.slot);
    sequence.prefix = null;
    return this.placement.place(sequence, prefix, this.running);
  }

  /** Takes the slot of a sequence, and keeps its contents as a reusable prefix. */
  #release(sequence: Sequence): void {
    const { slot } = sequence;
    sequence.slot = null;
    if (slot === null) return;
    slot.live = false;
    this.table.touch(slot);
    if (!this.limits.prefixReuse || slot.length === 0) this.table.drop(slot);
  }

  /** Evicts stored prefixes until they fit beside the live sequences. */
  #evict(live?: readonly Sequence[]): void {
    while (this.table.used('cached') > this.freeBytes(live) && this.table.evict());
  }

  #match(sequence: Sequence): Prefix | null {
    return this.#reuses(sequence) ? findPrefix(sequence, this.table) : null;
  }

  #reuses({ request }: Sequence): boolean {
    return this.limits.prefixReuse && request.promptLogprobs === null;
  }
}

/** Takes an item out of a list. @returns whether it was there */
function remove<T>(list: T[], item: T): boolean {
  const index = list.indexOf(item);
  if (index >= 0) list.splice(index, 1);
  return index >= 0;
}
