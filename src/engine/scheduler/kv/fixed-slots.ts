/**
 * Slots of equal size: each unit has a KV cache with a range for every slot, and each kept boundary a store of hidden
 * states. The system commits pages on their first write, and they stay with their slot.
 */
import type { ExitIndex } from '../../../protocol/index.js';
import { at } from '../../../util/at.js';
import { type Live, type MemoryOp, type PositionRun, SlotTable } from './slot-table.js';
import type { Slot, Units } from './units.js';

/** Bytes of a position of one sequence. */
export interface PositionBytes {
  /** In the KV cache of each unit. */
  readonly units: readonly number[];
  /** In the hidden states of each boundary; 0 where they are not kept. */
  readonly boundaries: readonly number[];
}

export class FixedSlots extends SlotTable {
  readonly granularity = 1;
  readonly isOrdered = true;
  #ops: MemoryOp[] = [];

  constructor(
    slots: number,
    units: Units,
    private readonly sizes: PositionBytes,
  ) {
    super(slots, units);
  }

  takeOps(): MemoryOp[] {
    const taken = this.#ops;
    this.#ops = [];
    return taken;
  }

  bytes(slot: Slot, length = Infinity): number {
    return this.#bytesOf(slot.frontiers, length);
  }

  bytesAt(exit: ExitIndex, length: number): number {
    const { needed, stage } = at(this.units.exits, exit);
    const { trunkStages, feedsBlock } = this.units;
    const { units, boundaries } = this.sizes;
    let bytes = 0;
    for (const unit of needed) {
      bytes += units[unit] ?? 0;
      if (unit < trunkStages && (unit === stage || feedsBlock[unit + 1])) bytes += boundaries[unit + 1] ?? 0;
    }
    return length * bytes;
  }

  held(slots: readonly Slot[]): number {
    return slots.reduce((sum, slot) => sum + this.bytes(slot), 0);
  }

  demand(live: readonly Live[]): number {
    return live.reduce((sum, { slot, exit, tokens }) => {
      return sum + Math.max(this.bytesAt(exit, tokens.length + 1), slot ? this.bytes(slot) : 0);
    }, 0);
  }

  copyPrefix(from: Slot, to: Slot, length: number): void {
    const { trunkStages, feedsBlock } = this.units;
    const before = [...to.frontiers];
    const units: PositionRun[] = [];
    for (let unit = 0; unit < to.frontiers.length; unit++) {
      const start = to.frontier(unit);
      const end = Math.min(length, from.frontier(unit));
      if (end <= start) continue;
      units.push({ of: unit, start, end });
      to.reach(unit, end);
    }
    const boundaries: PositionRun[] = [];
    for (let of = 1; of <= trunkStages; of++) {
      const stored = before[of - 1] ?? 0;
      const start = feedsBlock[of] || of >= trunkStages ? stored : Math.max(stored, to.frontier(of));
      const end = to.frontier(of - 1);
      if ((this.sizes.boundaries[of] ?? 0) > 0 && end > start) boundaries.push({ of, start, end });
    }
    if (units.length > 0) this.#ops.push({ op: 'copy', from: from.index, to: to.index, units, boundaries });
  }

  truncate(slot: Slot, length: number): void {
    slot.truncate(length);
  }

  /** Slots that wrote most beyond what they hold come first. */
  giveBack(most: number): void {
    let written = this.slots.reduce((sum, slot) => sum + this.#bytesOf(slot.written), 0);
    if (written <= most) return;
    const spare = (slot: Slot): number => this.#bytesOf(slot.written) - this.bytes(slot);
    for (const slot of this.slots.toSorted((a, b) => spare(b) - spare(a))) {
      if (written <= most || spare(slot) === 0) return;
      written -= spare(slot);
      this.#ops.push({ op: 'release', slot: slot.index, kept: [...slot.frontiers] });
      slot.written.set(slot.frontiers);
    }
  }

  reserve(): void {
    // The system commits pages as they are written.
  }

  /**
   * Bytes of so many positions of each unit, and of the hidden states that lie between the units or feed a block.
   * @param most positions of a unit that count
   */
  #bytesOf(positions: Int32Array, most = Infinity): number {
    const { trunkStages, feedsBlock } = this.units;
    const { units, boundaries } = this.sizes;
    let bytes = 0;
    for (let unit = 0; unit < positions.length; unit += 1) {
      const count = Math.min(most, positions[unit] ?? 0);
      if (count === 0) continue;
      bytes += count * (units[unit] ?? 0);
      if (unit >= trunkStages) continue;
      const boundary = unit + 1;
      const behind = boundary < trunkStages ? Math.min(most, positions[boundary] ?? 0) : count;
      bytes += (feedsBlock[boundary] ? count : count - behind) * (boundaries[boundary] ?? 0);
    }
    return bytes;
  }
}
