/**
 * Slots of equal size: each unit has a KV cache with a range for every slot, and each kept boundary a store of hidden
 * states. The system commits pages on their first write, and they stay with their slot.
 */
import { type MemoryOp, type PositionRun, SlotTable } from './slot-table.js';
import type { Slot } from './units.js';

export class FixedSlots extends SlotTable {
  readonly granularity = 1;
  readonly isOrdered = true;
  #ops: MemoryOp[] = [];

  override takeOps(): MemoryOp[] {
    const taken = this.#ops;
    this.#ops = [];
    return taken;
  }

  held(slots: readonly Slot[]): number {
    return slots.reduce((sum, { length }) => sum + this.bytesOf(length), 0);
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
      // Only a block reads what the next stage has processed, or what lies behind the last stage.
      const read = of < trunkStages ? to.frontier(of) : Infinity;
      const start = Math.max(before[of - 1] ?? 0, feedsBlock[of] === true ? 0 : read);
      const end = to.frontier(of - 1);
      if (end > start) boundaries.push({ of, start, end });
    }
    if (units.length > 0) this.#ops.push({ op: 'copy', from: from.index, to: to.index, units, boundaries });
  }

  truncate(slot: Slot, length: number): void {
    slot.truncate(length);
  }

  /** Slots that wrote most beyond what they hold come first. */
  giveBack(most: number): void {
    let written = this.slots.reduce((sum, slot) => sum + this.bytesOf(slot.written), 0);
    const spare = (slot: Slot): number => slot.written - slot.length;
    if (written <= most) return;
    for (const slot of this.slots.toSorted((a, b) => spare(b) - spare(a))) {
      if (written <= most || spare(slot) === 0) return;
      written -= this.bytesOf(spare(slot));
      this.#ops.push({ op: 'release', slot: slot.index, kept: slot.length });
      slot.written = slot.length;
    }
  }

  reserve(): void {
    // The system commits pages as they are written.
  }
}
