/**
 * All slots of the KV cache: which are live, which are stored prefixes, and what they hold.
 *
 * Must not know: bytes (KvAccount counts them), requests, scheduling policy.
 */
import type { ExitIndex } from '../../../protocol/index.js';
import { exitAt, type ExitUnits, type Units, Slot } from './units.js';
import type { KvAccount } from './kv-account.js';

/** A live sequence, as far as its memory goes. */
interface Live {
  readonly slot: Slot | null;
  readonly exit: ExitIndex;
  readonly tokens: readonly number[];
}

export class SlotTable {
  readonly #slots: Slot[];
  readonly #units: Units;
  /** The account of the slots' memory. */
  readonly kv: KvAccount;
  #clock = 0;

  /** @param slots number of sequences with a cache at the same time */
  constructor(slots: number, units: Units, kv: KvAccount) {
    this.#units = units;
    this.kv = kv;
    this.#slots = Array.from({ length: slots }, (_, index) => new Slot(index, units.stages.length));
  }

  get slots(): readonly Slot[] {
    return this.#slots;
  }

  at(index: number): Slot {
    const slot = this.#slots[index];
    if (!slot) throw new RangeError(`slot ${index} does not exist`);
    return slot;
  }

  /** Marks a slot as used now. */
  touch(slot: Slot): void {
    slot.lastUsed = ++this.#clock;
  }

  /** Bytes of a sequence of `length` positions at an exit. */
  bytesAt(exit: ExitIndex, length: number): number {
    return this.kv.bytesAt(this.#exit(exit), length);
  }

  /** Bytes that live sequences need up to their next position, with their whole prompts. */
  demand(live: readonly Live[]): number {
    return this.kv.demand(
      live.map(({ slot, exit, tokens }) => ({ slot, exit: this.#exit(exit), length: tokens.length + 1 })),
    );
  }

  /** Last trunk stage of an exit. */
  stageOf(exit: ExitIndex): number {
    return this.#exit(exit).stage;
  }

  /** Units that an exit needs. */
  needed(exit: ExitIndex): readonly number[] {
    return this.#exit(exit).needed;
  }

  /** Bytes of live slots, or those that stored prefixes alone hold. */
  used(which: 'live' | 'cached'): number {
    const live = this.kv.held(this.#slots.filter((slot) => slot.live));
    return which === 'live' ? live : this.kv.held(this.#slots) - live;
  }

  /** Empties a slot. */
  drop(slot: Slot): void {
    this.kv.release(slot);
    slot.tokens = [];
    slot.space = undefined;
    slot.live = false;
  }

  /** The least recently used reusable prefix, or null. */
  leastRecentlyUsed(except?: Slot): Slot | null {
    let oldest: Slot | null = null;
    for (const slot of this.#slots) {
      if (slot === except || slot.live || slot.length === 0) continue;
      if (oldest === null || slot.lastUsed < oldest.lastUsed) oldest = slot;
    }
    return oldest;
  }

  /**
   * Gives another slot the caches and hidden states of the first `length` positions, as far as slots share them. The
   * target may hold some of the same tokens; they stay.
   */
  copyPrefix(from: Slot, to: Slot, length: number): void {
    this.kv.share(from, to, length);
    if (length > to.tokens.length) to.tokens = from.tokens.slice(0, length);
  }

  /** Rolls a slot back to at most `length` positions. */
  truncate(slot: Slot, length: number): void {
    this.kv.rewind(slot, length);
  }

  #exit(exit: ExitIndex): ExitUnits {
    return exitAt(this.#units, exit);
  }
}
